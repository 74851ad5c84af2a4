"""Walking the tree of a space. Source: Client-Server API, "Discovering rooms within spaces"."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from federation.event import JsonObject
from homeserver.errors import Forbidden, InvalidParam, LimitExceeded
from homeserver.requester import Requester
from homeserver.rooms.described_rooms import DescribedRoom, RoomDescriber, is_followed
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
OUTSIDE_MAX = 100  # rooms of one tree that other servers are asked for
OUTSIDE_S = 10.0  # after which a page does without them
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
class _Node:
    """A room of the tree, from its stored summary or as another server describes it."""

    summary: JsonObject
    depth: int
    outside: DescribedRoom | None = None


@dataclass(slots=True)
class _Walk:
    """For whom a tree is walked, how, and what other servers may still be asked for."""

    user_id: str
    memberships: Memberships
    max_depth: int
    suggested_only: bool
    outside_left: int = OUTSIDE_MAX
    deadline_s: float = field(default_factory=lambda: time.monotonic() + OUTSIDE_S)


@dataclass(frozen=True, slots=True)
class SpaceHierarchy:
    """Lists the rooms of a space that a user may see, depth first.

    A token counts the rooms that were given already, and the tree is walked anew for each page: what is
    behind costs one query a space, and nothing has to be kept between two requests. What other servers
    said of their rooms is kept for a while by whoever asks them.
    """

    pool: Pool
    rooms: Rooms
    user_rooms: UserRooms
    outside: RoomDescriber

    async def page(self, requester: Requester, room_id: str, query: HierarchyQuery) -> JsonObject:
        """`getSpaceHierarchy`. Raises Forbidden (an unknown or closed root), InvalidParam."""
        depth = DEPTH_MAX if query.max_depth is None else min(query.max_depth, DEPTH_MAX)
        skipped = _parse_token(query.since, depth, query.suggested_only)
        end = skipped + min(query.limit, PAGE_MAX)
        memberships = await memberships_by_id(self.user_rooms, requester)
        walk = _Walk(requester.user_id, memberships, depth, query.suggested_only)
        found: list[JsonObject] = []
        more = False
        position = size_bytes = 0
        async for entry, entry_bytes in self._rooms_of(walk, room_id):
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

    async def _rooms_of(self, walk: _Walk, root_id: str) -> AsyncIterator[tuple[JsonObject, int]]:
        """The visible rooms, each before its children, each once; with about how many bytes they take."""
        roots = await self._nodes(walk, {root_id: []}, None, 0)
        if not roots:
            raise Forbidden("You are not allowed to view this room")
        stack = roots
        seen = {root_id}  # "Servers should gracefully break loops."
        while stack:
            node = stack.pop()
            children_state, size_bytes = await self._children_state(node, walk.suggested_only)
            yield {**room_summary(node.summary), "children_state": children_state}, size_bytes
            if node.depth >= walk.max_depth:
                continue
            wanted = {
                event["state_key"]: event["content"]["via"]
                for event in children_state[: ROOMS_MAX - len(seen)]
                if event["state_key"] not in seen
            }
            if wanted:
                seen.update(wanted)
                children = await self._nodes(walk, wanted, node.outside, node.depth + 1)
                stack += reversed(children)

    async def _children_state(self, node: _Node, suggested_only: bool) -> tuple[list[JsonObject], int]:
        """The events of a room's children, and how many bytes they take."""
        if node.outside is not None:
            return list(node.outside.children_state), node.outside.size_bytes
        is_space = node.summary.get("room_type") == SPACE
        room = await self.rooms.find(node.summary["room_id"]) if is_space else None
        children = children_of(room, suggested_only) if room is not None else []
        return [child_state(event) for event in children], sum(len(event.json) for event in children)

    async def _nodes(
        self, walk: _Walk, wanted: Mapping[str, Sequence[str]], parent: DescribedRoom | None, depth: int
    ) -> list[_Node]:
        """Those rooms that the user may see, in their order; `wanted` has the servers to ask by room id."""
        stored = await fetch_summaries(self.pool, wanted)
        unknown = {room_id: via for room_id, via in wanted.items() if not is_followed(stored.get(room_id))}
        outside = await self._outside(walk, unknown, parent) if unknown else {}
        nodes = []
        for room_id in wanted:
            described = outside.get(room_id)
            summary = described.summary if described is not None else stored.get(room_id)
            if summary is not None and is_visible(summary, walk.memberships):
                nodes.append(_Node(summary, depth, described))
        return nodes

    async def _outside(
        self, walk: _Walk, unknown: Mapping[str, Sequence[str]], parent: DescribedRoom | None
    ) -> dict[str, DescribedRoom]:
        """What other servers say of rooms: their parent's server, else those that are named for them."""
        found: dict[str, DescribedRoom] = {}
        asked: list[str] = []
        for room_id in unknown:
            if parent is not None and room_id in parent.inaccessible:
                continue  # "They should not be re-requested."
            summary = parent.children.get(room_id) if parent is not None else None
            if summary is not None:
                found[room_id] = DescribedRoom(summary)
            if summary is None or summary.get("room_type") == SPACE:  # whose children it does not say
                asked.append(room_id)
        remaining_s = walk.deadline_s - time.monotonic()
        asked = asked[: walk.outside_left]
        if not asked or remaining_s <= 0:
            return found
        walk.outside_left -= len(asked)

        async def ask(room_id: str) -> None:
            try:
                described = await self.outside.describe(
                    room_id, unknown[room_id], walk.user_id, suggested_only=walk.suggested_only
                )
            except LimitExceeded:
                walk.outside_left = 0  # the user gets what is known without asking more
                return
            if described is not None:
                found[room_id] = described

        try:
            async with asyncio.timeout(remaining_s), asyncio.TaskGroup() as tasks:
                for room_id in asked:
                    tasks.create_task(ask(room_id))
        except TimeoutError:
            pass  # those that answered in time are there
        return found


def children_of(space: Room, suggested_only: bool) -> list[Event]:
    """The valid children of a space in their order, at most CHILDREN_MAX and CHILDREN_BYTES_MAX.

    Source: m.space.child; "Ordering of children within a space".
    """
    children = [
        event
        for (event_type, state_key), event in space.state.items()
        if event_type == SPACE_CHILD and is_child(state_key, event.content)
    ]
    if suggested_only:
        children = [event for event in children if event.content.get("suggested") is True]
    first = sorted(children, key=_order)[:CHILDREN_MAX]
    sizes = accumulate(len(event.json) for event in first)
    return [event for event, size in zip(first, sizes, strict=True) if size <= CHILDREN_BYTES_MAX]


def is_child(state_key: str, content: JsonObject) -> bool:
    """Whether an m.space.child event makes the room in its state key a child."""
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
    return child_order(event.content, event.origin_server_ts, event.state_key or "")


def child_order(content: JsonObject, sent_ms: int, room_id: str) -> tuple[bool, str, int, str]:
    """What children are sorted by. Source: "Ordering of children within a space"."""
    order = content.get("order")
    if not isinstance(order, str) or not _ORDER.fullmatch(order):
        order = ""  # "treated as though the order key was not provided"
    return not order, order, sent_ms, room_id


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
