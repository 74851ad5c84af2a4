"""Account data of users: put, get, and what sync shows of it. Source: Client-Server API, "Client Config"."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import orjson

from federation.event import JsonObject
from homeserver.accounts import push_rules
from homeserver.batched_reads import BatchedReads
from homeserver.commit_log.change import Change
from homeserver.commit_log.log import CommitLog
from homeserver.errors import InvalidParam, NotFound, ServerControlled, TooLarge
from homeserver.loading_cache import LoadingCache
from homeserver.requester import Requester
from homeserver.storage.account_data import (
    AccountDataChange,
    AccountDataRow,
    count_other_entries,
    encode_event,
    fetch_entries_of_rooms,
    fetch_entries_since,
    fetch_entries_since_each,
    fetch_entry,
    fetch_of_users,
)
from homeserver.storage.connection import Pool
from homeserver.storage.rooms import by_id

FULLY_READ = "m.fully_read"
IGNORED_USERS = "m.ignored_user_list"
INVITE_PERMISSION = "m.invite_permission_config"
# "Currently, this only includes m.fully_read and m.push_rules."
SERVER_CONTROLLED = frozenset({FULLY_READ, push_rules.TYPE})
TYPE_BYTES_MAX = 255  # as of events
CONTENT_BYTES_MAX = 256 * 1024
ENTRIES_MAX = 20_000  # of one user, over all rooms
BYTES_MAX = 16 * 1024 * 1024  # likewise: an initial sync brings all of it
NOBODY: frozenset[str] = frozenset()


@dataclass(slots=True)
class AccountDataEvents:
    """Encoded events for a sync: the account's, and by room."""

    account: list[bytes] = field(default_factory=list)
    rooms: dict[int, list[bytes]] = field(default_factory=dict)


class AccountData:
    """Account data of all users, and whom they ignore (kept in memory)."""

    def __init__(self, pool: Pool, log: CommitLog, *, cache_bytes: int) -> None:
        self._pool = pool
        self._log = log
        self._ignored: LoadingCache[str, frozenset[str]] = LoadingCache(
            self._load_ignored, lambda _, users: 300 + 150 * len(users), cache_bytes
        )
        # Of those who come back after a while, many ask at once, as after a restart, and few have anything.
        self._since: BatchedReads[tuple[int, int], list[AccountDataRow]] = BatchedReads(
            partial(fetch_entries_since_each, pool)
        )
        log.subscribe(self._follow)

    async def room_nid(self, room_id: str) -> int:
        """The number of a room. Raises InvalidParam (no room id), NotFound (a room nobody here knows)."""
        if not room_id.startswith("!") or len(room_id) > TYPE_BYTES_MAX:
            raise InvalidParam("This is not a valid room ID")
        row = await by_id(self._pool, room_id)
        if row is None:
            raise NotFound("This server does not know the room")
        return int(row["nid"])

    async def put(
        self, requester: Requester, event_type: str, content: JsonObject, *, room_id: str | None = None
    ) -> None:
        """`setAccountData` and `setAccountDataPerRoom`; durable when this returns.

        Raises ServerControlled, TooLarge, InvalidParam, and as `room_nid`.
        """
        if event_type in SERVER_CONTROLLED:
            raise ServerControlled(f"{event_type} is managed by the server: it cannot be set directly")
        if not event_type or len(event_type.encode()) > TYPE_BYTES_MAX:
            raise InvalidParam(f"The type must have 1 to {TYPE_BYTES_MAX} bytes")
        encoded = orjson.dumps(content)
        if len(encoded) > CONTENT_BYTES_MAX:
            raise TooLarge(f"Account data of one type may have {CONTENT_BYTES_MAX} bytes at most")
        room_nid = await self.room_nid(room_id) if room_id is not None else 0
        count, size_bytes = await count_other_entries(
            self._pool, requester.user_nid, room_nid, event_type, most=ENTRIES_MAX
        )
        if count >= ENTRIES_MAX:
            raise TooLarge(f"A user may have {ENTRIES_MAX} entries of account data at most")
        if size_bytes + len(encoded) > BYTES_MAX:
            raise TooLarge(f"A user may have {BYTES_MAX} bytes of account data at most")
        await self._log.commit(new_entry(requester, room_nid, event_type, encoded))

    async def get(self, requester: Requester, event_type: str, *, room_id: str | None = None) -> bytes:
        """The content, JSON: `getAccountData` and `getAccountDataPerRoom`. Raises NotFound, InvalidParam."""
        room_nid = await self.room_nid(room_id) if room_id is not None else 0
        entry = await fetch_entry(self._pool, requester.user_nid, room_nid, event_type)
        if event_type == push_rules.TYPE and room_nid == 0:
            return push_rules.encode_content(requester.user_id, entry.content if entry else None)
        if entry is None:
            raise NotFound("There is no account data of this type")
        return entry.content

    async def all(self, user_id: str, user_nid: int) -> AccountDataEvents:
        """Everything, for an initial sync; the push rules too of a user who has the defaults."""
        entries = await fetch_entries_since(self._pool, user_nid, 0)
        found = _encode(user_id, entries)
        if not any(entry.type == push_rules.TYPE and entry.room_nid == 0 for entry in entries):
            found.account.append(encode_event(push_rules.TYPE, push_rules.encode_content(user_id, None)))
        return found

    async def of_rooms(self, user_id: str, user_nid: int, room_nids: Collection[int]) -> AccountDataEvents:
        """Everything of some rooms; room 0 stands for what is the account's, as in `all`."""
        entries = await fetch_entries_of_rooms(self._pool, user_nid, room_nids)
        found = _encode(user_id, entries)
        if 0 in room_nids and not any(
            entry.type == push_rules.TYPE for entry in entries if not entry.room_nid
        ):
            found.account.append(encode_event(push_rules.TYPE, push_rules.encode_content(user_id, None)))
        return found

    async def since(self, user_id: str, user_nid: int, position: int) -> AccountDataEvents:
        """What changed after a position, for a sync that begins before the live tail."""
        return _encode(user_id, await self._since.of((user_nid, position)))

    async def ignored(self, user_id: str) -> frozenset[str]:
        """Whom a user ignores. Source: Client-Server API, "Ignoring Users"."""
        cached = self._ignored.get(user_id)
        return cached if cached is not None else await self._ignored.load(user_id)

    async def blocking_invites(self, user_ids: Collection[str]) -> list[str]:
        """Those of the users who take no invites. Source: Client-Server API, "Invite permission"."""
        stored = await fetch_of_users(self._pool, user_ids, INVITE_PERMISSION)
        # "A missing, invalid or unsupported value means that the user wants to receive invites"
        return [
            user_id
            for user_id, content in stored.items()
            if content is not None and orjson.loads(content).get("default_action") == "block"
        ]

    def _follow(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if isinstance(change, AccountDataChange) and change.type == IGNORED_USERS and not change.room_nid:
                self._ignored.put(change.owner, _read_ignored(change.content))

    async def _load_ignored(self, user_ids: Collection[str]) -> Mapping[str, frozenset[str]]:
        stored = await fetch_of_users(self._pool, user_ids, IGNORED_USERS)
        return {user_id: _read_ignored(stored.get(user_id)) for user_id in user_ids}


def new_entry(
    requester: Requester, room_nid: int, event_type: str, content: bytes, *, replaces: int | None = None
) -> AccountDataChange:
    """The change that stores JSON as the requester's account data; see AccountDataChange."""
    return AccountDataChange(
        owner=requester.user_id,
        user_nid=requester.user_nid,
        room_nid=room_nid,
        type=event_type,
        content=content,
        event=encode_event(event_type, content),
        replaces=replaces,
    )


def _encode(user_id: str, entries: Sequence[AccountDataRow]) -> AccountDataEvents:
    found = AccountDataEvents()
    for entry in entries:
        content = entry.content
        if entry.room_nid:
            found.rooms.setdefault(entry.room_nid, []).append(encode_event(entry.type, content))
            continue
        if entry.type == push_rules.TYPE:
            content = push_rules.encode_content(user_id, content)
        found.account.append(encode_event(entry.type, content))
    return found


def _read_ignored(content: bytes | None) -> frozenset[str]:
    if not content:
        return NOBODY
    users = orjson.loads(content).get("ignored_users")
    return frozenset(users) if isinstance(users, dict) and users else NOBODY
