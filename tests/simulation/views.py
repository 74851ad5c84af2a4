"""A room as one server has it, and what has to be the same for two that share it."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

import orjson

from homeserver.rooms.event import FLAG_OUTLIER, FLAG_REJECTED
from tests.simulation.companies import USERS, Company

EVENTS = "SELECT event_id, flags, depth, json FROM events WHERE room_nid = $1"
GAPS_END = "SELECT coalesce(max(depth), 0) FROM history_gaps WHERE room_nid = $1"
NOT_STORED = FLAG_OUTLIER | FLAG_REJECTED


@dataclass(frozen=True, slots=True)
class View:
    """`flags`, `prev_events` by event id; `servers` have joined users, `is_inside` if this one has."""

    server_name: str
    is_inside: bool
    servers: Set[str]
    newest: Set[str]
    state: Mapping[tuple[str, str], str]
    flags: Mapping[str, int]
    depths: Mapping[str, int]
    prev_events: Mapping[str, list[str]]
    gaps_end: int
    """The depth above which nothing is missing: what only a server had that has left is not to be had."""

    def sees(self, other: View) -> bool:
        return self.is_inside and other.server_name in self.servers

    def standing(self, above: int) -> set[str]:
        """The newest events and all that they follow, as far as it is not rejected, above a depth."""
        pending, found = list(self.newest), set[str]()
        while pending:
            event_id = pending.pop()
            if event_id in self.prev_events and event_id not in found:
                found.add(event_id)
                pending += self.prev_events[event_id]
        high = (event_id for event_id in found if self.depths[event_id] > above)
        return {event_id for event_id in high if not self.flags[event_id] & NOT_STORED}


async def view(company: Company, room_id: str) -> View:
    room = await company.node.services.rooms.find(room_id)
    if room is None:
        return View(company.name, False, set(), set(), {}, {}, {}, {}, 0)
    rows = await company.pool.fetch(EVENTS, room.nid)
    return View(
        server_name=company.name,
        is_inside=bool(room.local_members),
        servers=set(room.servers),
        newest={event.event_id for event in room.extremities},
        state={key: event.event_id for key, event in room.state.items()},
        flags={row["event_id"]: row["flags"] for row in rows},
        depths={row["event_id"]: row["depth"] for row in rows},
        prev_events={row["event_id"]: orjson.loads(row["json"])["prev_events"] for row in rows},
        gaps_end=await company.pool.fetchval(GAPS_END, room.nid),
    )


def check_alike(one: View, other: View) -> None:
    """Two servers that see each other in the room have the same of it."""
    names = f"{one.server_name}, {other.server_name}"
    assert one.newest == other.newest, f"{names}: newest events {one.newest ^ other.newest}"
    different = dict(one.state.items() ^ other.state.items())
    assert not different, f"{names}: state {different}"
    above = max(one.gaps_end, other.gaps_end)
    missing = one.standing(above) ^ other.standing(above)
    assert not missing, f"{names}: events {missing}"
    for event_id in one.flags.keys() & other.flags.keys():
        flags = one.flags[event_id], other.flags[event_id]
        if not any(each & FLAG_OUTLIER for each in flags):
            assert flags[0] & FLAG_REJECTED == flags[1] & FLAG_REJECTED, f"{names}: {event_id} has {flags}"


async def check_members(company: Company, room_id: str) -> None:
    """What is counted and kept of a room's members is what its state says."""
    services = company.node.services
    room = await services.rooms.find(room_id)
    if room is None or not room.local_members:
        return
    members = {user for user, _ in room.members("join")}
    assert room.joined_count == len(members)
    assert room.local_members == {user for user in members if room.is_local(user)}
    for name in USERS:
        entry = (await services.joining.user_rooms.get(company.user(name))).get(room.nid)
        known = entry.membership if entry is not None else "leave"
        assert known == room.membership(company.user(name)), company.user(name)
