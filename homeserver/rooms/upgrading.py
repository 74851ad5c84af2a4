"""Replacing a room by one of another version. Source: Client-Server API, "Room Upgrades"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import structlog

from federation.event import PDU
from federation.room_versions import RoomVersion
from homeserver.accounts.profiles import Profiles
from homeserver.errors import Forbidden
from homeserver.requester import Requester
from homeserver.rooms.aliases import Aliases, Publication
from homeserver.rooms.creation import new_room_id, supported_version
from homeserver.rooms.draft import Draft
from homeserver.rooms.initial_state import TOMBSTONE, check_additional_creators
from homeserver.rooms.receiving import Outcome, Receiving
from homeserver.rooms.room import MEMBER, Room
from homeserver.rooms.rooms import Rooms
from homeserver.rooms.succession import Succession
from homeserver.rooms.successor_state import (
    POWER_LEVELS,
    closing_power_levels,
    copied_bans,
    copied_state,
    enabling_power_levels,
    successor_create_content,
    successor_power_levels,
)

log = structlog.get_logger()

STATE_AT_ONCE = 100  # events that are built without letting other requests in between


@dataclass(frozen=True, slots=True)
class Upgrading:
    """Makes successors. The old room is left alone until its successor is complete."""

    rooms: Rooms
    receiving: Receiving
    profiles: Profiles
    aliases: Aliases
    publication: Publication
    succession: Succession
    server_name: str

    async def upgrade(
        self, requester: Requester, room_id: str, new_version: str, *, additional_creators: Any = None
    ) -> str:
        """`upgradeRoom`: the successor's id.

        Raises UnsupportedRoomVersion, NotFound, Forbidden, BadJson.
        """
        version = supported_version(new_version)
        additional: list[str] = []
        if version.privileged_creators and additional_creators is not None:
            check_additional_creators(additional_creators)
            additional = additional_creators
        old = await self.rooms.get(room_id)
        if old.membership(requester.user_id) != "join":
            raise Forbidden("You are not in this room: join it first")
        power_levels = old.power_levels
        if power_levels.for_user(requester.user_id) < power_levels.for_event(TOMBSTONE, True):
            raise Forbidden("Your power level in this room does not allow you to upgrade it")
        room_id, last = new_room_id(self.server_name), old.extremities[0].event_id
        tombstone = None
        if not version.room_id_is_create_hash:  # else the one cannot name the other before it is made
            tombstone = await self._propose_tombstone(requester.user_id, old, room_id)
            last = tombstone.event_id
        old = await self.rooms.get(old.room_id)
        new = await self._create(requester.user_id, old, version, additional, room_id, last)
        await self._close(requester.user_id, old, new, tombstone)
        # From the tombstone on everybody finds the successor, whatever becomes of what follows.
        await self.aliases.move(old.nid, new.nid)
        await self.publication.move(old.nid, new.nid)
        await self.succession.joined(requester, new)
        return new.room_id

    async def _propose_tombstone(self, sender: str, old: Room, new_room_id: str) -> PDU:
        """The old room's tombstone before it is sent. Raises Forbidden."""
        await self.rooms.settle(old)  # it names the newest events, which must be stored by then
        old = await self.rooms.get(old.room_id)
        pdu, _ = self.rooms.propose(old, _tombstone(sender, new_room_id), with_origin=True)
        return pdu

    async def _create(
        self,
        creator: str,
        old: Room,
        version: RoomVersion,
        additional_creators: Sequence[str],
        room_id: str,
        last_event_id: str,
    ) -> Room:
        profile = await self.profiles.of(creator)
        final = successor_power_levels(old, version, creator, additional_creators)
        enabling = enabling_power_levels(final, version, creator)
        create = successor_create_content(old, version, creator, additional_creators, last_event_id)
        join = {**profile.member_content(), "membership": "join"}
        first = [
            _state(creator, "m.room.create", create),
            Draft(sender=creator, type=MEMBER, state_key=creator, content=join),
            _state(creator, POWER_LEVELS, enabling),
        ]
        rest = iter([*copied_state(old, version, creator), *copied_bans(old, creator)])
        new = await self.rooms.create(version, room_id, [*first, *islice(rest, STATE_AT_ONCE)])
        while batch := list(islice(rest, STATE_AT_ONCE)):
            await self.rooms.send_all(new.room_id, batch)
        if enabling is not final:
            await self.rooms.send(new.room_id, _state(creator, POWER_LEVELS, final))
        return new

    async def _close(self, sender: str, old: Room, new: Room, proposed: PDU | None) -> None:
        """Point the old room to the new one and, if the user may, keep people from talking on in it."""
        drafts: list[Draft] = []
        if proposed is not None:  # by now other events may have come: then it stands beside them in the graph
            [result] = await self.receiving.receive(old.room_id, [proposed], relay_for=self.server_name)
            if result.outcome is not Outcome.ACCEPTED:
                log.info("tombstone does not stand as proposed", room_id=old.room_id, reason=result.reason)
                proposed = None
        if proposed is None:
            drafts.append(_tombstone(sender, new.room_id))
        old = await self.rooms.get(old.room_id)  # as it is by now
        if old.content_of("m.room.canonical_alias"):
            drafts.append(_state(sender, "m.room.canonical_alias", {}))
        if old.state_event(POWER_LEVELS) is not None:
            drafts.append(_state(sender, POWER_LEVELS, closing_power_levels(old)))
        try:
            await self.rooms.send_all(old.room_id, drafts)
        except Forbidden as cause:
            log.info("old room not closed", room_id=old.room_id, reason=cause.message)
            if proposed is None:
                await self.rooms.send(old.room_id, drafts[0])


def _tombstone(sender: str, new_room_id: str) -> Draft:
    content = {"body": "This room has been replaced", "replacement_room": new_room_id}
    return _state(sender, TOMBSTONE, content)


def _state(sender: str, event_type: str, content: dict[str, Any]) -> Draft:
    return Draft(sender=sender, type=event_type, state_key="", content=content)
