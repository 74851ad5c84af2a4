"""Entering rooms through servers that are in them. Source: Server-Server API, "Joining Rooms"."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeGuard

from federation.errors import BadIdentifier, FederationError, NotCanonical
from federation.event import PDU, JsonObject
from federation.identifiers import check_room_id, is_valid_server_name, server_name_of
from federation.transport.client import FederationClient, path_of
from federation.transport.errors import Refused
from homeserver.errors import BadJson, InvalidParam, NotFound
from homeserver.federating.checked_joins import CheckedJoin, check_join
from homeserver.federating.handshakes import BadHandshake, Handshakes
from homeserver.federating.older_versions import put_event
from homeserver.federating.other_servers import candidates, first_that_does, refusal_of
from homeserver.federating.partial_joins import PartialJoins
from homeserver.federating.shown_rooms import read_shown
from homeserver.federating.third_party_invites import ask_for_invite
from homeserver.federating.verifying import EventVerifier
from homeserver.keyed_locks import KeyedLocks
from homeserver.rooms.event import Event
from homeserver.rooms.outside_rooms import OutsideRooms
from homeserver.rooms.past_events import InvalidRoomState, PastEvents
from homeserver.rooms.receiving import Outcome, Receiving
from homeserver.rooms.room import Room
from homeserver.rooms.rooms import Rooms

SEND_TIMEOUT_S = 90.0
ANSWER_BYTES_MAX = 64 * 1024 * 1024  # of the state of a room with some 50,000 members
AT_ONCE = 8  # joins of different rooms: what other servers answer takes memory
SERVERS_OF_ALIAS_MAX = 20
SETTLED_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class FederatedJoining:
    """One join of a room at a time: whoever comes second finds the room here."""

    client: FederationClient
    handshakes: Handshakes
    verifier: EventVerifier
    rooms: Rooms
    receiving: Receiving
    past_events: PastEvents
    outside: OutsideRooms
    partial_joins: PartialJoins
    locks: KeyedLocks[str] = field(default_factory=KeyedLocks)
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    async def find_alias(self, alias: str) -> tuple[str, Sequence[str]]:
        """See `homeserver.rooms.elsewhere.JoiningElsewhere`.

        Asked each time: `AliasLookup` keeps answers, and an alias may just have been made.
        """
        server = _server_of(alias)
        if server is None:
            raise InvalidParam("This is not a valid room alias: expected #name:server")
        try:
            answer = await self.client.request(
                server,
                "GET",
                "/_matrix/federation/v1/query/directory",
                {"room_alias": alias},
                despite_backoff=True,
            )
        except Refused as failure:
            if failure.status == 404:
                raise NotFound("There is no room of this name") from failure
            raise refusal_of([failure]) from failure
        except FederationError as failure:
            raise refusal_of([failure]) from failure
        room_id, servers = answer.get("room_id"), answer.get("servers")
        if not _is_room_id(room_id):
            raise refusal_of([BadHandshake("The answer names no room")])
        names = servers[:SERVERS_OF_ALIAS_MAX] if isinstance(servers, list) else []
        return room_id, [*(name for name in names if isinstance(name, str)), server]

    async def join(
        self, user_id: str, room_id: str, servers: Sequence[str], content: JsonObject, *, authorised: bool
    ) -> Event | None:
        """See `homeserver.rooms.elsewhere.JoiningElsewhere`."""
        async with self.locks.hold(room_id):
            room = await self.rooms.find(room_id)
            if room is not None and room.followed and not authorised:
                return None
            names = await self._candidates(user_id, room_id, room, servers)
            if authorised and not names:
                return None

            async def join_through(server: str) -> Event:
                async with self.slots:
                    return await self._join_through(server, user_id, room_id, room, content)

            return await first_that_does(names, join_through, "join")

    async def exchange(self, user_id: str, room_id: str, sender: str, signed: JsonObject) -> None:
        """See `homeserver.rooms.elsewhere.JoiningElsewhere`."""
        try:
            await ask_for_invite(self.client, user_id, room_id, sender, signed)
        except (BadIdentifier, NotCanonical) as cause:  # before anything is sent: the client's own words
            raise BadJson("third_party_signed must have the sender's user id, mxid and token") from cause
        except FederationError as failure:
            raise refusal_of([failure]) from failure

    async def knock(
        self, user_id: str, room_id: str, servers: Sequence[str], content: JsonObject
    ) -> Event | None:
        """See `homeserver.rooms.elsewhere.JoiningElsewhere`."""
        async with self.locks.hold(room_id):
            room = await self.rooms.find(room_id)
            if room is not None and room.followed:
                return None

            async def knock_through(server: str) -> Event | None:
                template = await self.handshakes.make(server, "knock", room_id, user_id)
                knock, _ = self.handshakes.build(template, room_id, user_id, content)
                answer = await self.client.request(
                    server,
                    "PUT",
                    path_of("/_matrix/federation/v1/send_knock/{}/{}", room_id, knock.event_id),
                    body=knock.json,
                    despite_backoff=True,
                )
                shown = await read_shown(
                    self.verifier, answer.get("knock_room_state"), template.version, room_id
                )
                return await self.outside.record(user_id, knock, [server], shown.stripped)

            names = await self._candidates(user_id, room_id, room, servers)
            return await first_that_does(names, knock_through, "knock")

    async def settled(self, room_id: str) -> None:
        """Return once nobody is entering a room any more, or after a while: its events may come meanwhile."""
        if self.locks.is_held(room_id):
            with suppress(TimeoutError):
                async with asyncio.timeout(SETTLED_TIMEOUT_S), self.locks.hold(room_id):
                    pass

    async def _candidates(
        self, user_id: str, room_id: str, room: Room | None, servers: Sequence[str]
    ) -> list[str]:
        """The servers to ask, those that the client names first."""
        known = await self.outside.find(user_id, room_id)
        invited_by = known.servers if known is not None else ()
        names = (*servers, *invited_by, *_servers_in(room), _server_of(room_id) or "")
        return candidates(names, self.handshakes.server_name)

    async def _join_through(
        self, server: str, user_id: str, room_id: str, room: Room | None, content: JsonObject
    ) -> Event:
        """Raises FederationError."""
        template = await self.handshakes.make(server, "join", room_id, user_id)
        if room is not None and room.version is not template.version:
            raise BadHandshake("The room is known here with another version")
        join, _ = self.handshakes.build(template, room_id, user_id, content)
        answer = await put_event(
            self.client,
            server,
            "send_join",
            room_id,
            join.event_id,
            join.json,
            join.json,
            # a room that is known goes on from what is known: there all members are wanted at once
            query={"omit_members": "true"} if room is None else None,
            unread_lists=("state", "auth_chain"),
            timeout_s=SEND_TIMEOUT_S,
            response_bytes_max=ANSWER_BYTES_MAX,
        )
        checked = await check_join(self.verifier, template, join, answer)
        if room is not None and room.followed:
            await self._take_in(room_id, checked)
        else:
            try:
                await self.past_events.install(
                    template.version,
                    checked.state,
                    checked.auth_chain,
                    checked.join,
                    lacks_members_of=checked.lacks_members_of,
                )
            except InvalidRoomState as cause:
                raise BadHandshake(str(cause)) from cause
            if checked.lacks_members_of is not None:
                await self.partial_joins.begin(room_id)
        return await self._member(room_id, checked.join)

    async def _take_in(self, room_id: str, checked: CheckedJoin) -> None:
        """Add a join that another server has let through to a room that this node follows."""
        [result] = await self.receiving.receive(room_id, [checked.join])
        if result.outcome is Outcome.MISSING:  # the other server is ahead of us
            await self.past_events.store_outliers(room_id, [*checked.auth_chain, *checked.state])
            before = [pdu.event_id for pdu in checked.state]
            states = dict.fromkeys(result.missing, before)
            [result] = await self.receiving.receive(room_id, [checked.join], states)
        if result.outcome is not Outcome.ACCEPTED:
            raise BadHandshake(f"The join does not stand here: {result.reason or result.outcome.value}")

    async def _member(self, room_id: str, join: PDU) -> Event:
        room = await self.rooms.get(room_id)
        member = room.member(join.sender)
        if member is None:
            raise BadHandshake("The room's state has no place for the join")
        return member


def _servers_in(room: Room | None) -> Iterator[str]:
    """The servers of a room's members, as far as we know."""
    if room is not None:
        for user_id, _ in room.members("join"):
            yield user_id.partition(":")[2]


def _is_room_id(value: object) -> TypeGuard[str]:
    try:
        check_room_id(value if isinstance(value, str) else "")
    except BadIdentifier:
        return False
    return isinstance(value, str) and "\x00" not in value


def _server_of(identifier: str) -> str | None:
    """The server that an identifier names; None where it names none, as room ids of version 12."""
    try:
        server = server_name_of(identifier)
    except BadIdentifier:
        return None
    return server if is_valid_server_name(server) else None
