"""What clients ask for beside rooms: account data, receipts, typing.

Source: MSC3959 (account data), MSC3960 (receipts), MSC3961 (typing): the extensions that current clients
enable.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import orjson

from homeserver.accounts.account_data import AccountData
from homeserver.commit_log.ephemeral import Ephemeral
from homeserver.commit_log.log import CommitLog
from homeserver.storage.connection import Pool
from homeserver.storage.receipts import (
    MAIN_TIMELINE,
    UNTHREADED,
    Receipt,
    ReceiptChange,
    encode_receipts,
    fetch_receipts_at,
    fetch_receipts_since,
)
from homeserver.sync.sliding.connection_state import Told
from homeserver.sync.sliding.look import Candidate, Look
from homeserver.sync.sliding.room_results import Reading


@dataclass(slots=True)
class ExtensionsResult:
    """Encoded extensions by name; whether any of them is news."""

    parts: list[bytes]
    has_news: bool = False

    def add(self, name: str, body: bytes, *, is_news: bool) -> None:
        self.parts.append(b'"%b":%b' % (name.encode(), body))
        self.has_news = self.has_news or is_news


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomExtensions:
    """Works out the extensions that follow the rooms."""

    pool: Pool
    log: CommitLog
    account_data: AccountData
    ephemeral: Ephemeral

    async def add_account_data(
        self, look: Look, candidates: Sequence[Candidate], result: ExtensionsResult
    ) -> None:
        """The account's account data, and that of rooms. Notes in the look that the account's was told."""
        requester, scope = look.requester, look.request.extensions.account_data
        told = bool(look.connection.told & Told.ACCOUNT_DATA)
        look.tell_account(Told.ACCOUNT_DATA, scope is not None)
        if scope is None:
            return
        changed = look.changes.account_of_rooms
        wanted = [] if told else [0]
        rooms: dict[str, Sequence[bytes]] = {}
        anew: dict[int, str] = {}
        for candidate in candidates:
            if not candidate.within(scope):
                continue
            if candidate.fell_behind or not candidate.was_told(Told.ACCOUNT_DATA):
                anew[candidate.nid] = candidate.room.room_id
            elif candidate.nid in changed:
                rooms[candidate.room.room_id] = changed[candidate.nid]
        account = look.changes.account
        if wanted or anew:
            found = await self.account_data.of_rooms(requester.user_id, requester.user_nid, [*wanted, *anew])
            account = found.account if wanted else account
            rooms |= {anew[nid]: events for nid, events in found.rooms.items()}
        if account or rooms:
            parts: list[bytes] = []
            if account:
                parts.append(b'"global":[%b]' % b",".join(account))
            if rooms:
                encoded = ((room_id, b"[%b]" % b",".join(events)) for room_id, events in rooms.items())
                parts.append(b'"rooms":' + _by_room(encoded))
            result.add("account_data", b"{%b}" % b",".join(parts), is_news=True)

    async def add_receipts(
        self,
        look: Look,
        candidates: Sequence[Candidate],
        readings: Sequence[Reading],
        result: ExtensionsResult,
    ) -> None:
        """Receipts of joined rooms: those that moved; of a room that is told of from the start, those at its
        timeline and the user's own."""
        scope = look.request.extensions.receipts
        if scope is None:
            return
        untold = [
            reading.candidate
            for reading in readings
            if reading.candidate.within(scope) and not reading.candidate.was_told(Told.RECEIPTS)
        ]
        anew = {candidate.nid for candidate in untold if candidate.initial}
        late = {candidate.nid for candidate in untold} - anew  # the extension came later than the room
        concerned = look.changes.concerned
        moved = [
            candidate
            for candidate in candidates
            if candidate.is_joined
            and candidate.nid not in anew
            and candidate.nid not in late
            and (candidate.nid in concerned or candidate.fell_behind)
            and candidate.within(scope)
        ]
        found = await self._since(look, moved)
        if late:
            found |= await fetch_receipts_since(self.pool, late, 0, look.requester.user_id)
        if anew:
            events = [
                event.nid
                for reading in readings
                if reading.candidate.nid in anew
                for event in reading.timeline.events
            ]
            found |= await fetch_receipts_at(self.pool, anew, events, look.requester.user_id)
        names = {candidate.nid: candidate.room.room_id for candidate in candidates}
        encoded = [
            (names[nid], _one_event(receipts))
            for nid, each in found.items()
            if (receipts := [one for one in each if one.user_id not in look.ignored])
        ]
        if encoded:
            result.add("receipts", b'{"rooms":%b}' % _by_room(encoded), is_news=True)

    def add_typing(self, look: Look, candidates: Sequence[Candidate], result: ExtensionsResult) -> None:
        """Who types in joined rooms, where that changed."""
        scope = look.request.extensions.typing
        if scope is None:
            return
        since = look.since.ephemeral if look.since is not None else 0
        encoded: list[tuple[str, bytes]] = []
        for candidate in candidates:
            if not candidate.is_joined:
                continue
            anew = candidate.initial or candidate.fell_behind
            typing = self.ephemeral.typing_since(candidate.nid, 0 if anew else since)
            if typing is None or (candidate.initial and not typing) or not candidate.within(scope):
                continue
            users = [user_id for user_id in typing if user_id not in look.ignored]
            body = b'{"type":"m.typing","content":{"user_ids":%b}}' % orjson.dumps(users)
            encoded.append((candidate.room.room_id, body))
        if encoded:
            result.add("typing", b'{"rooms":%b}' % _by_room(encoded), is_news=True)

    async def _since(self, look: Look, candidates: Iterable[Candidate]) -> dict[int, list[Receipt]]:
        """Receipts that moved after the client was told of them, by room."""
        tail, user_id = self.log.tail, look.requester.user_id
        found: dict[int, list[Receipt]] = {}
        stored: dict[int, list[int]] = {}
        for candidate in candidates:
            if not tail.covers(candidate.since):
                stored.setdefault(candidate.since, []).append(candidate.nid)
                continue
            changes = (*tail.of_room(candidate.nid, candidate.since), *tail.of_user(user_id, candidate.since))
            moved = [
                change.receipt
                for change in changes
                if isinstance(change, ReceiptChange)
                and change.room_nid == candidate.nid
                and change.position <= look.upto
            ]
            if moved:
                found[candidate.nid] = moved
        for position, nids in stored.items():
            found |= await fetch_receipts_since(self.pool, nids, position, user_id)
        return found


def _one_event(receipts: Sequence[Receipt]) -> bytes:
    """One ``m.receipt`` event, for the extension has room for one a room: where a user has several receipts
    at one event, the one that reaches furthest stands for all."""
    reach = {UNTHREADED: 0, MAIN_TIMELINE: 1}
    best: dict[tuple[str, str, str], Receipt] = {}
    for receipt in receipts:
        key = (receipt.user_id, receipt.type, receipt.event_id)
        known = best.get(key)
        if known is None or reach.get(receipt.thread_id, 2) <= reach.get(known.thread_id, 2):
            best[key] = receipt
    return encode_receipts(best.values())[0]


def _by_room(encoded: Iterable[tuple[str, bytes]]) -> bytes:
    return b"{" + b",".join(orjson.dumps(room_id) + b":" + body for room_id, body in encoded) + b"}"
