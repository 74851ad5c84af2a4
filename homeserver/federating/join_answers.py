"""The answer to a join: the room's state and what authorised it. Source: Server-Server API, `sendJoinV2`."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from federation.event import PDU
from homeserver.federating.room_state_answers import RoomStateAnswers, json_list
from homeserver.rooms.room import MEMBER, OLDEST_MEMBERS, Room, membership_of
from homeserver.rooms.snapshot_reader import State


@dataclass(frozen=True, slots=True)
class JoinAnswers:
    """Splices it together from the events as they are stored."""

    states: RoomStateAnswers
    server_name: str
    omit_members_from: int

    async def of(self, room: Room, join: PDU, *, omit_members: bool) -> bytes:
        """The body of the answer, for a join that has been accepted.

        With ``omit_members``, of a large room only those members are in it that the room is named after.
        """
        [event] = await self.states.encoded(room, [join.event_id])
        before = await self.states.state_before(room, join.event_id)
        omitted = omit_members and sum(key[0] == MEMBER for key in before) >= self.omit_members_from
        parts = [
            b'{"origin":' + orjson.dumps(self.server_name),
            b',"event":' + event,
            b',"members_omitted":' + (b"true" if omitted else b"false"),
        ]
        if omitted:
            parts.append(b',"servers_in_room":' + orjson.dumps(servers_in(before)))
            before = without_members(before)
        ids = [each.event_id for each in before.values()]
        chain = await self.states.auth_chain_ids(room, [join.event_id, *ids])
        if omit_members:
            # "any events that are returned in `state` may be omitted from `auth_chain`"
            shown = set(ids)
            chain = [event_id for event_id in chain if event_id not in shown]
        parts += [b',"state":', json_list(each.json for each in before.values())]
        parts += [b',"auth_chain":', json_list(await self.states.encoded(room, chain)), b"}"]
        return b"".join(parts)


def servers_in(state: State) -> list[str]:
    """The servers with joined members."""
    return list(
        dict.fromkeys(
            user_id.partition(":")[2]
            for (type, user_id), event in state.items()
            if type == MEMBER and membership_of(event) == "join"
        )
    )


def without_members(state: State) -> State:
    """A state without member events, but for those that name a room which has no name.

    "If the room to be joined has no m.room.name nor m.room.canonical_alias events in its current state, the
    resident server should determine the room members who would be included in the m.heroes property".
    """
    members = [(key, event) for key, event in state.items() if key[0] == MEMBER]
    rest = {key: event for key, event in state.items() if key[0] != MEMBER}
    if ("m.room.name", "") in state or ("m.room.canonical_alias", "") in state:
        return rest
    present = [item for item in members if membership_of(item[1]) in ("join", "invite")]
    present.sort(key=lambda item: item[1].nid)
    return {**rest, **dict(present[:OLDEST_MEMBERS])}
