"""Push rules of users: stored as account data `m.push_rules`, edited, and kept compiled.

Stored is what differs from the default rules (`homeserver.push_rules`); what clients get as the
content of `m.push_rules` is the whole rule set. Source: Client-Server API, "Push Rules: API".
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import orjson

from homeserver.commit_log.change import Change
from homeserver.commit_log.log import CommitLog
from homeserver.errors import LimitExceeded
from homeserver.keyed_locks import KeyedLocks
from homeserver.loading_cache import LoadingCache
from homeserver.push_rules import NO_CHANGES, Evaluator, RuleSet, compile_rules
from homeserver.requester import Requester
from homeserver.storage.account_data import (
    AccountDataChange,
    AccountDataConflict,
    encode_event,
    fetch_entry,
    fetch_of_users,
)
from homeserver.storage.connection import Pool

TYPE = "m.push_rules"
ATTEMPTS = 5  # of an edit that another process was faster than
DEFAULTS_BYTES = 400  # measured: an entry of a user with the default rules, whose compiled form is shared
BYTES_PER_STORED_BYTE = 20  # measured, of rules parsed and compiled
CONFLICT_RETRY_MS = 500


@dataclass(frozen=True, slots=True)
class UserRules:
    """The rules of one user, as stored and compiled."""

    rule_set: RuleSet
    evaluator: Evaluator
    size_bytes: int


class PushRules:
    """All users' push rules; the ones in use are in memory, compiled."""

    def __init__(self, pool: Pool, log: CommitLog, *, cache_bytes: int) -> None:
        self._pool = pool
        self._log = log
        self._cache: LoadingCache[str, UserRules] = LoadingCache(
            self._load, lambda _, rules: rules.size_bytes, cache_bytes
        )
        self._locks: KeyedLocks[str] = KeyedLocks()
        log.subscribe(self._follow)

    def cached(self, user_id: str) -> Evaluator | None:
        """The user's compiled rules, if they are in memory."""
        rules = self._cache.get(user_id)
        return rules.evaluator if rules is not None else None

    async def evaluators(self, user_ids: Collection[str]) -> dict[str, Evaluator]:
        """The compiled rules of users of this node, those that are not in memory in one query."""
        found = await self._cache.load_many(user_ids)
        return {user_id: rules.evaluator for user_id, rules in found.items()}

    async def rule_set(self, user_id: str) -> RuleSet:
        """What the user's rules are now; the defaults for who never changed any."""
        return (await self._cache.load(user_id)).rule_set

    async def edit(self, requester: Requester, change: Callable[[RuleSet], RuleSet]) -> None:
        """Apply one of `homeserver.push_rules.changes`; durable when this returns.

        Raises what ``change`` raises.
        """
        async with self._locks.hold(requester.user_id):
            for _ in range(ATTEMPTS):
                entry = await fetch_entry(self._pool, requester.user_nid, 0, TYPE)
                before = read_rule_set(entry.content if entry else None)
                after = change(before)
                if after is before:
                    return
                try:
                    await self._log.commit(_change(requester, after, entry.position if entry else 0))
                except AccountDataConflict:
                    continue
                return
        raise LimitExceeded(CONFLICT_RETRY_MS)

    def _follow(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if isinstance(change, AccountDataChange) and change.type == TYPE and change.room_nid == 0:
                self._cache.forget(change.owner)

    async def _load(self, user_ids: Collection[str]) -> Mapping[str, UserRules]:
        stored = await fetch_of_users(self._pool, user_ids, TYPE)
        return {user_id: _user_rules(user_id, stored.get(user_id)) for user_id in user_ids}


def read_rule_set(stored: bytes | None) -> RuleSet:
    """The rule set of a stored entry; the defaults without one."""
    return RuleSet.from_record(orjson.loads(stored)) if stored else NO_CHANGES


def encode_content(user_id: str, stored: bytes | None) -> bytes:
    """The content of ``m.push_rules`` as the user's clients get it, from the stored entry."""
    return orjson.dumps(read_rule_set(stored).to_api(user_id))


def _user_rules(user_id: str, stored: bytes | None) -> UserRules:
    rule_set = read_rule_set(stored)
    size_bytes = DEFAULTS_BYTES + BYTES_PER_STORED_BYTE * len(stored or b"")
    return UserRules(rule_set, compile_rules(rule_set, user_id), size_bytes)


def _change(requester: Requester, rule_set: RuleSet, replaces: int) -> AccountDataChange:
    stored = orjson.dumps(rule_set.to_record())
    return AccountDataChange(
        owner=requester.user_id,
        user_nid=requester.user_nid,
        room_nid=0,
        type=TYPE,
        content=stored,
        event=encode_event(TYPE, encode_content(requester.user_id, stored)),
        replaces=replaces,
    )
