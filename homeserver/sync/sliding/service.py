"""Sliding sync: waiting for news of the rooms that a client wants to see, and putting the answer together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from federation.event import JsonObject
from homeserver.accounts.account_data import AccountData
from homeserver.clock import Clock, now_ms
from homeserver.commit_log.ephemeral import Ephemeral
from homeserver.commit_log.log import CommitLog
from homeserver.commit_log.notifier import until_woken
from homeserver.requester import Requester
from homeserver.rooms.presence import Presence
from homeserver.rooms.thread_subscriptions import ThreadSubscriptions
from homeserver.storage.account_data import AccountDataChange
from homeserver.storage.connection import Pool
from homeserver.storage.receipts import ReceiptChange
from homeserver.storage.rooms import changed_rooms
from homeserver.sync.lazy_members import LazyMembers
from homeserver.sync.sliding.candidates import Picking, Window, is_settled, settlement
from homeserver.sync.sliding.connection import Connection, Pos, parse_pos
from homeserver.sync.sliding.connection_state import Told
from homeserver.sync.sliding.connections import Connections
from homeserver.sync.sliding.device_extensions import DeviceExtensions
from homeserver.sync.sliding.extensions import ExtensionsResult, RoomExtensions
from homeserver.sync.sliding.look import Candidate, Changes, Look
from homeserver.sync.sliding.request import Dialect, SlidingRequest, parse_request
from homeserver.sync.sliding.room_list import UserRoomList
from homeserver.sync.sliding.room_lists import DIRECT, RoomLists
from homeserver.sync.sliding.room_results import Reading, RoomResults, needs_reading
from homeserver.sync.token import SyncToken

ROOMS_AT_ONCE = 100  # read and encoded together: what an answer takes in memory does not grow with the rooms
ANSWER_BYTES_MAX = 8 * 1024 * 1024  # of rooms, after which no further ones are read
PARSED_FACTOR = 10  # what a request takes in memory, by the bytes of its body
WINDOWS_ATTEMPTS = 5
BEHIND_MAX = 1000  # positions that the token of an answer without news may stay behind, to save a write


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What is different in each request of a connection."""

    pos: str | None
    conn_id: str
    timeout_ms: int
    set_presence: str
    txn_id: str | None = None


class SlidingSync:
    """Answers sliding sync as JSON bytes."""

    def __init__(
        self,
        *,
        pool: Pool,
        log: CommitLog,
        connections: Connections,
        room_lists: RoomLists,
        results: RoomResults,
        extensions: RoomExtensions,
        device_extensions: DeviceExtensions,
        thread_subscriptions: ThreadSubscriptions,
        lazy_members: LazyMembers,
        account_data: AccountData,
        ephemeral: Ephemeral,
        presence: Presence,
        timeout_max_ms: int,
        clock: Clock = now_ms,
    ) -> None:
        self._pool = pool
        self._log = log
        self._connections = connections
        self._room_lists = room_lists
        self._results = results
        self._extensions = extensions
        self._device_extensions = device_extensions
        self._thread_subscriptions = thread_subscriptions
        self._lazy_members = lazy_members
        self._account_data = account_data
        self._ephemeral = ephemeral
        self._presence = presence
        self._timeout_max_ms = timeout_max_ms
        self._clock = clock

    async def sync(self, requester: Requester, call: Call, body: JsonObject, dialect: Dialect) -> bytes:
        """The answer: at once with news, and in a connection's first request; else after waiting.

        `body` is what the client repeats from request to request. Raises BadJson, InvalidParam,
        MissingParam, UnknownPos.
        """
        timeout_ms = min(call.timeout_ms, self._timeout_max_ms)
        user_id, device_id = requester.user_id, requester.device_id
        self._presence.seen(user_id, call.set_presence, device_id=device_id, timeout_ms=timeout_ms)
        if call.pos is None:
            request = parse_request(body, dialect, requester.user_id)
            connection = self._connections.begin(requester, call.conn_id)
            _, answer = await self._look(requester, call, request, connection, None)
            return answer
        pos = parse_pos(call.pos)
        connection = await self._connections.resume(requester, call.conn_id, pos)
        request = _parsed(connection, body, dialect, user_id)
        turn = connection.take_turn()
        async with connection.lock:
            if connection.turn != turn:
                return _empty(pos, call, b"{}", b"{}")
            if connection.generation != pos.generation:  # another request was faster, with a newer token
                connection = await self._connections.resume(requester, call.conn_id, pos)
            self._lazy_members.begin(connection.number, pos.token)
            return await self._wait(requester, call, request, connection, pos, turn, timeout_ms)

    async def _wait(
        self,
        requester: Requester,
        call: Call,
        request: SlidingRequest,
        connection: Connection,
        pos: Pos,
        turn: int,
        timeout_ms: int,
    ) -> bytes:
        loop, notifier = asyncio.get_running_loop(), self._log.notifier
        if timeout_ms <= 0:
            _, answer = await self._look(requester, call, request, connection, pos)
            return answer
        deadline = loop.time() + timeout_ms / 1000
        while connection.turn == turn:
            woken = notifier.register(requester.user_id)  # before the look: what comes during it wakes us too
            connection.waiting = woken
            try:
                has_news, answer = await self._look(requester, call, request, connection, pos)
                remaining = deadline - loop.time()
                if has_news or remaining <= 0 or notifier.closed:
                    return answer
                await until_woken(woken, remaining)
            finally:
                connection.waiting = None
                notifier.unregister(requester.user_id, woken)
        return _empty(pos, call, b"{}", b"{}")

    async def _look(
        self,
        requester: Requester,
        call: Call,
        request: SlidingRequest,
        connection: Connection,
        pos: Pos | None,
    ) -> tuple[bool, bytes]:
        """Whether there is news, and the answer. Only an answer with news changes the connection."""
        since = pos.token if pos is not None else None
        rooms, windows = await self._windows(requester, request)
        now = SyncToken(rooms.position, self._ephemeral.counter)
        settled = since is not None and is_settled(connection, request, windows)
        if since == now and pos is not None and settled:
            idle = self._device_extensions.idle(requester, request.extensions, connection, now.position)
            if idle is not None:
                return False, _empty(pos, call, _counts(windows), idle)
        changes = Changes()
        if since is not None and since != now:
            changes = await self._changes(requester, connection, rooms, windows, since, now)
            if changes.dms:
                settled = False
            # If that took a query, what the windows hold may be of a later time: it is told of again.
        look = Look(
            requester=requester,
            request=request,
            connection=connection,
            since=since,
            now=now,
            now_ms=self._clock(),
            ignored=rooms.ignored,
            changes=changes,
        )
        candidates = Picking(look, rooms, windows).pick(settled=settled)
        counts, state = _counts(windows), settlement(request, windows)
        encoded, extensions, is_whole = await self._tell(look, candidates)
        has_news = bool(encoded) or extensions.has_news
        generation = connection.generation
        if look.delta or not connection.is_stored:
            unsaved = not has_news and pos is not None and now.position - pos.token.position < BEHIND_MAX
            if unsaved and pos is not None:
                return False, _empty(pos, call, counts, _object(extensions.parts))
            generation = await self._connections.save(connection, look.delta)
        connection.settled = (generation, *state) if is_whole else None
        told = Pos(now, connection.number, generation)
        return has_news, _answer(told, call, counts, _object(encoded), _object(extensions.parts))

    async def _tell(
        self, look: Look, candidates: Sequence[Candidate]
    ) -> tuple[list[bytes], ExtensionsResult, bool]:
        """The rooms with news, encoded, the extensions, and whether that is all there was to tell: what would
        make the answer too large waits for the next request."""
        changed = {*look.changes.rooms, *look.changes.own_receipts}
        encoded: list[bytes] = []
        readings: list[Reading] = []
        wanted = [candidate for candidate in candidates if needs_reading(candidate, look, changed)]
        size_bytes = start = 0
        while start < len(wanted) and size_bytes < ANSWER_BYTES_MAX:
            batch, read = await self._results.encode(look, wanted[start : start + ROOMS_AT_ONCE])
            encoded += batch
            readings += read
            size_bytes += sum(map(len, batch))
            start += ROOMS_AT_ONCE
        later = {candidate.nid for candidate in wanted[start:]}
        if later:
            for candidate in wanted[start:]:
                look.fall_behind(candidate.nid, candidate.sent)
            candidates = [candidate for candidate in candidates if candidate.nid not in later]
        extensions = ExtensionsResult([])
        await self._device_extensions.add_to_device(look, extensions)
        await self._device_extensions.add_e2ee(look, extensions)
        await self._extensions.add_account_data(look, candidates, extensions)
        await self._extensions.add_receipts(look, candidates, readings, extensions)
        self._extensions.add_typing(look, candidates, extensions)
        await self._add_threads(look, extensions)
        return encoded, extensions, not later

    async def _add_threads(self, look: Look, result: ExtensionsResult) -> None:
        """What the user said of threads: the newest first, and then as it changes. Source: MSC4308."""
        limit = look.request.extensions.threads_limit
        told = bool(look.connection.told & Told.THREADS)
        look.tell_account(Told.THREADS, limit is not None)
        if limit is None:
            return
        after = look.since.position if told and look.since is not None else 0
        page = await self._thread_subscriptions.between(look.requester, after, look.upto, limit)
        if page.entries:
            body = orjson.dumps(page.body("prev_batch"))
            result.add(look.dialect.thread_subscriptions, body, is_news=True)

    async def _windows(
        self, requester: Requester, request: SlidingRequest
    ) -> tuple[UserRoomList, list[Window]]:
        """The user's rooms and the request's windows on them, all of one moment."""
        attempts = 0
        while True:
            rooms = await self._room_lists.current(requester)
            changes, windows = rooms.changes, list[Window]()
            for each in request.lists:
                listed = await self._room_lists.filtered(rooms, each.filter)
                windows.append(Window(each, listed, listed.within(each.ranges)))
            attempts += 1
            # Else another request of the user moved the list on while a space was read.
            if rooms.changes == changes or attempts == WINDOWS_ATTEMPTS:
                return rooms, windows

    async def _changes(
        self,
        requester: Requester,
        connection: Connection,
        rooms: UserRoomList,
        windows: Sequence[Window],
        since: SyncToken,
        now: SyncToken,
    ) -> Changes:
        user_id, tail = requester.user_id, self._log.tail
        typing = self._ephemeral.rooms_typed_in_since(since.ephemeral)
        if not tail.covers(since.position):
            nids = list({*connection.rooms, *(nid for window in windows for nid in window.rooms)})
            changed = await changed_rooms(self._pool, nids, since.position, now.position)
            changed = [nid for nid in changed if rooms.follows(nid, since.position)]
            changed += [nid for nid in connection.rooms if rooms.moved(nid, since.position)]
            data = await self._account_data.since(user_id, requester.user_nid, since.position)
            return Changes(
                rooms=changed,
                account=data.account,
                account_of_rooms=data.rooms,
                own_receipts=changed,
                typing=typing,
                dms=True,
            )
        account: dict[str, bytes] = {}
        of_rooms: dict[int, dict[str, bytes]] = {}
        own_receipts: set[int] = set()
        for change in tail.of_user(user_id, since.position):
            if change.position > now.position:
                break
            if isinstance(change, ReceiptChange):
                own_receipts.add(change.room_nid)
            elif isinstance(change, AccountDataChange) and change.room_nid:
                of_rooms.setdefault(change.room_nid, {})[change.type] = change.event
            elif isinstance(change, AccountDataChange):
                account[change.type] = change.event
        changed = tail.rooms_changed(rooms.order, since.position)
        changed = [nid for nid in changed if rooms.follows(nid, since.position)]
        own_receipts.update(
            nid
            for nid in changed
            if any(
                isinstance(change, ReceiptChange) and change.receipt.user_id == user_id
                for change in tail.of_room(nid, since.position)
            )
        )
        return Changes(
            rooms=changed,
            account=list(account.values()),
            account_of_rooms={nid: list(events.values()) for nid, events in of_rooms.items()},
            own_receipts=own_receipts,
            typing=typing,
            dms=DIRECT in account,
        )


def _parsed(connection: Connection, body: JsonObject, dialect: Dialect, user_id: str) -> SlidingRequest:
    """The request in a body, which most clients repeat again and again."""
    known = connection.parsed
    if known is not None and known[1].dialect is dialect and known[0] == body:
        return known[1]
    request = parse_request(body, dialect, user_id)
    connection.parsed = body, request
    connection.parsed_bytes = PARSED_FACTOR * len(orjson.dumps(body))
    return request


def _counts(windows: Sequence[Window]) -> bytes:
    return _object(
        [b'%b:{"count":%d}' % (orjson.dumps(each.request.name), len(each.listed.rooms)) for each in windows]
    )


def _empty(pos: Pos, call: Call, counts: bytes, extensions: bytes) -> bytes:
    return _answer(pos, call, counts, b"{}", extensions)


def _answer(pos: Pos, call: Call, counts: bytes, rooms: bytes, extensions: bytes) -> bytes:
    txn_id = b',"txn_id":' + orjson.dumps(call.txn_id) if call.txn_id is not None else b""
    return b'{"pos":"%b"%b,"lists":%b,"rooms":%b,"extensions":%b}' % (
        str(pos).encode(),
        txn_id,
        counts,
        rooms,
        extensions,
    )


def _object(parts: Sequence[bytes]) -> bytes:
    return b"{" + b",".join(parts) + b"}"
