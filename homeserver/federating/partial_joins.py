"""Fetching the members of rooms that were entered without them, in the background and across restarts.

Source: proposals/3706-partial-state-in-send-join.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import msgspec
import structlog

from federation.canonical import JsonObject
from federation.errors import FederationError, MalformedEvent
from federation.event import PDU
from federation.transport.client import FederationClient, path_of
from homeserver.errors import MatrixError, NotFound, Unavailable
from homeserver.federating.checked_joins import EVENTS_MAX
from homeserver.federating.handshakes import BadHandshake
from homeserver.federating.verifying import EventVerifier, parsed
from homeserver.rooms.partial_rooms import PartialRooms
from homeserver.rooms.past_events import InvalidRoomState
from homeserver.rooms.room import MEMBER
from homeserver.rooms.rooms import Rooms
from homeserver.storage import partial_rooms as sql
from homeserver.storage.connection import Pool
from homeserver.storage.partial_rooms import PartialRoomRow
from homeserver.supervisor import Supervisor, TooManyJobs

log = structlog.get_logger()

GRACE_S = 1.0  # a client waits that long for all members of a room that it has joined, in case they come
TIMEOUT_S = 120.0
ANSWER_BYTES_MAX = 128 * 1024 * 1024
SERVERS_MAX = 5  # asked in one round
AT_ONCE = 2  # rooms whose members are fetched side by side: each may take some hundred MiB
DELAY_MIN_S = 1.0
DELAY_MAX_S = 600.0


class PartialJoins:
    """One job for each such room, until it is complete."""

    def __init__(
        self,
        pool: Pool,
        client: FederationClient,
        verifier: EventVerifier,
        rooms: Rooms,
        partial: PartialRooms,
        supervisor: Supervisor,
    ) -> None:
        self._pool = pool
        self._client = client
        self._verifier = verifier
        self._rooms = rooms
        self._partial = partial
        self._supervisor = supervisor
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def resume(self) -> None:
        """Go on with the rooms that lacked members when the node stopped."""
        for row in await sql.fetch_all(self._pool):
            self._start(row.room_id)

    async def begin(self, room_id: str) -> None:
        """Fetch the members of a room that was just entered. Waits a moment, in case it is a small one."""
        self._start(room_id)
        room = await self._rooms.get(room_id)
        if room.partial_servers is not None:
            with suppress(Unavailable):
                await self._rooms.completions.wait(room.nid, GRACE_S)

    def _start(self, room_id: str) -> None:
        try:
            self._supervisor.run_once("partial join", self._complete(room_id))
        except TooManyJobs:
            log.warning("members not fetched before the next start", room_id=room_id)

    async def _complete(self, room_id: str) -> None:
        delay_s = DELAY_MIN_S
        while (row := await sql.fetch(self._pool, room_id)) is not None:
            room = await self._rooms.find(room_id)
            if room is None or not room.followed:
                return  # all of ours have left: whoever comes back is given the whole state
            async with self._slots:
                if await self._ask_all(row):
                    log.info("members of a room are known", room_id=room_id)
                    return
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, DELAY_MAX_S)

    async def _ask_all(self, row: PartialRoomRow) -> bool:
        """Whether one of the servers gave the room's members."""
        room = await self._rooms.find(row.room_id)
        others = room.remote_servers if room is not None else ()
        for server in list(dict.fromkeys((*row.servers, *others)))[:SERVERS_MAX]:
            try:
                await self._ask(server, row)
            except (FederationError, InvalidRoomState, MatrixError) as cause:
                log.info("members of a room not had", room_id=row.room_id, server=server, cause=str(cause))
            else:
                return True
        return False

    async def _ask(self, server: str, row: PartialRoomRow) -> None:
        """Raises FederationError, InvalidRoomState, NotFound, Unavailable."""
        room = await self._rooms.get(row.room_id)
        answer = await self._client.request(
            server,
            "GET",
            path_of("/_matrix/federation/v1/state/{}", row.room_id),
            {"event_id": row.join_event_id},
            unread_lists=("pdus", "auth_chain"),
            timeout_s=TIMEOUT_S,
            response_bytes_max=ANSWER_BYTES_MAX,
        )
        state, chain = answer.get("pdus"), answer.get("auth_chain")
        if not isinstance(state, list) or not isinstance(chain, list):
            raise BadHandshake("The answer lacks pdus or auth_chain")
        if len(state) + len(chain) > EVENTS_MAX:
            raise BadHandshake(f"The answer has more than {EVENTS_MAX} events")
        verdicts = await self._verifier.verify([*state, *chain], room.version, row.room_id)
        await asyncio.to_thread(_check_servers, state, verdicts, row.servers)
        before = [verdict for verdict in verdicts[: len(state)] if isinstance(verdict, PDU)]
        behind = [verdict for verdict in verdicts[len(state) :] if isinstance(verdict, PDU)]
        with suppress(NotFound):  # the room is gone: there is nothing to complete
            await self._partial.complete(row, before, behind)


def _check_servers(
    state: Sequence[msgspec.Raw], verdicts: Sequence[PDU | FederationError], servers: Sequence[str]
) -> None:
    """Raise BadHandshake if servers that were said to be in the room have no members by this state.

    By what is claimed: of a server that is gone for good, no signature can be checked. `verdicts` are those
    on the state's events, and maybe on others.
    """
    missing = set(servers)
    for event, verdict in zip(state, verdicts, strict=False):
        if not missing:
            return
        json = verdict.json if isinstance(verdict, PDU) else _parsed_or_none(event)
        if isinstance(json, dict) and isinstance(json.get("sender"), str) and _is_join(json):
            missing.discard(json["sender"].partition(":")[2])
    if missing:
        raise BadHandshake("The state lacks members of servers that are in the room")


def _parsed_or_none(text: msgspec.Raw) -> object:
    with suppress(MalformedEvent):
        return parsed(text)
    return None


def _is_join(event: JsonObject) -> bool:
    content = event.get("content")
    is_own = event.get("type") == MEMBER and event.get("state_key") == event.get("sender")
    return is_own and isinstance(content, dict) and content.get("membership") == "join"
