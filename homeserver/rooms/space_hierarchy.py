"""Walking the tree of a space. Source: Client-Server API, "Discovering rooms within spaces"."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import accumulate

from federation.event import JsonObject
from homeserver.errors import Forbidden, InvalidParam
from homeserver.requester import Requester
from homeserver.rooms.event import Event
from homeserver.rooms.room import Room
from homeserver.rooms.room_summaries import Memberships, is_visible, memberships_by_id, room_summary
from homeserver.rooms.rooms import Rooms
from homeserver.rooms.user_rooms import UserRooms
from homeserver.storage.connection import Pool
from homeserver.storage.room_summaries import fetch_summaries

SPACE = "m.space"
SPACE_CHILD = "m.space.child"
PAGE_DEFAULT = 50
PAGE_MAX = 200
DEPTH_MAX = 20
PAGE_BYTES_MAX = 4 * 1024 * 1024  # of the events of children
CHILDREN_MAX = 1000  # of one space that are looked at
CHILDREN_BYTES_MAX = PAGE_BYTES_MAX  # likewise; the events of children are small where nobody means harm
ROOMS_MAX = 5000  # in one tree
ROOM_ID_LENGTH_MAX = 255
_ORDER = re.compile(r"[\x20-\x7e]{1,50}")
_TOKEN = re.compile(r"h([0-9]{1,4})_([0-9]{1,2})_([01])")


@dataclass(frozen=True, slots=True, kw_only=True)
class HierarchyQuery:
    """What `getSpaceHierarchy` asks for; None is the most that the server gives."""

    suggested_only: bool = False
    max_depth: int | None = None
    limit: int = PAGE_DEFAULT
    since: str | None = None


@dataclass(frozen=True, slots=True)
class SpaceHierarchy:
    """Lists the rooms of a space that a user may see, depth first.

    A token counts the rooms that were given already, and the tree is walked anew for each page: what is
    behind costs one query a space, and nothing has to be kept between two requests.
    """

    pool: Pool
    rooms: Rooms
    user_rooms: UserRooms

    async def page(self, requester: Requester, room_id: str, query: HierarchyQuery) -> JsonObject:
        """`getSpaceHierarchy`. Raises Forbidden (an unknown or closed root), InvalidParam."""
        depth = DEPTH_MAX if query.max_depth is None else min(query.max_depth, DEPTH_MAX)
        skipped = _parse_token(query.since, depth, query.suggested_only)
        end = skipped + min(query.limit, PAGE_MAX)
        memberships = await memberships_by_id(self.user_rooms, requester)
        found: list[JsonObject] = []
        more = False
        position = size_bytes = 0
        async for entry, entry_bytes in self._walk(room_id, memberships, depth, query.suggested_only):
            if position == end or (found and size_bytes + entry_bytes > PAGE_BYTES_MAX):
                more = True
                break
            if position >= skipped:
                found.append(entry)
                size_bytes += entry_bytes
            position += 1
        body: JsonObject = {"rooms": found}
        if more:
            body["next_batch"] = f"h{position}_{depth}_{query.suggested_only:d}"
        return body

    async def _walk(
        self, root_id: str, memberships: Memberships, max_depth: int, suggested_only: bool
    ) -> AsyncIterator[tuple[JsonObject, int]]:
        """The visible rooms, each before its children, each once; with about how many bytes they take."""
        stored = (await fetch_summaries(self.pool, (root_id,))).get(root_id)
        if stored is None or not is_visible(stored, memberships):
            raise Forbidden("You are not allowed to view this room")
        stack = [(stored, 0)]
        seen = {root_id}  # "Servers should gracefully break loops."
        while stack:
            stored, depth = stack.pop()
            children: list[Event] = []
            if stored.get("room_type") == SPACE:
                room = await self.rooms.find(stored["room_id"])
                children = children_of(room, suggested_only) if room is not None else []
            entry = {**room_summary(stored), "children_state": [child_state(event) for event in children]}
            yield entry, sum(len(event.json) for event in children)
            if depth >= max_depth:
                continue
            wanted = [
                event.state_key for event in children if event.state_key and event.state_key not in seen
            ]
            wanted = wanted[: ROOMS_MAX - len(seen)]
            if not wanted:
                continue
            seen.update(wanted)
            summaries = await fetch_summaries(self.pool, wanted)
            for child_id in reversed(wanted):
                child = summaries.get(child_id)
                if child is not None and is_visible(child, memberships):
                    stack.append((child, depth + 1))


def children_of(space: Room, suggested_only: bool) -> list[Event]:
    """The valid children of a space in their order, at most CHILDREN_MAX and CHILDREN_BYTES_MAX.

    Source: m.space.child; "Ordering of children within a space".
    """
    children = [
        event
        for (event_type, state_key), event in space.state.items()
        if event_type == SPACE_CHILD and _is_child(state_key, event.content)
    ]
    if suggested_only:
        children = [event for event in children if event.content.get("suggested") is True]
    first = sorted(children, key=_order)[:CHILDREN_MAX]
    sizes = accumulate(len(event.json) for event in first)
    return [event for event, size in zip(first, sizes, strict=True) if size <= CHILDREN_BYTES_MAX]


def _is_child(state_key: str, content: JsonObject) -> bool:
    # "When [via is] not present or invalid, the child room is not considered to be part of the space."
    via = content.get("via")
    return (
        state_key.startswith("!")
        and len(state_key) <= ROOM_ID_LENGTH_MAX
        and isinstance(via, list)
        and bool(via)
        and all(isinstance(server, str) for server in via)
    )


def _order(event: Event) -> tuple[bool, str, int, str]:
    order = event.content.get("order")
    if not isinstance(order, str) or not _ORDER.fullmatch(order):
        order = ""  # "treated as though the order key was not provided"
    return not order, order, event.origin_server_ts, event.state_key or ""


def child_state(event: Event) -> JsonObject:
    """An event of ``children_state``: stripped state with its time."""
    return {**event.stripped(), "origin_server_ts": event.origin_server_ts}


def _parse_token(token: str | None, max_depth: int, suggested_only: bool) -> int:
    """How many rooms were given already. Raises InvalidParam."""
    if token is None:
        return 0
    match = _TOKEN.fullmatch(token)
    if match is None or int(match[1]) > ROOMS_MAX:
        raise InvalidParam("This is no token of an earlier page")
    if int(match[2]) != max_depth or (match[3] == "1") != suggested_only:
        raise InvalidParam("suggested_only and max_depth cannot change on paginated requests")
    return int(match[1])
