"""Rooms and spaces of other servers, as these describe them to us.

Source: Server-Server API, "Spaces"; space_hierarchy.yaml.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson
import structlog

from federation.canonical import JsonObject
from federation.errors import BadIdentifier
from federation.identifiers import check_room_id, server_name_of, split_user_id
from federation.transport.client import path_of
from federation.transport.errors import RequestFailed
from homeserver.federating.asking import Asking, Question
from homeserver.federating.summary_answers import checked_summary
from homeserver.rooms.described_rooms import DescribedRoom
from homeserver.rooms.space_hierarchy import CHILDREN_MAX, SPACE_CHILD, child_order, is_child

log = structlog.get_logger()

PATH = "/_matrix/federation/v1/hierarchy/{}"
ANSWER_BYTES_MAX = 2 * 1024 * 1024
KEPT_MS = 120_000  # "Responses to this endpoint should be cached for a period of time."
SERVERS_MAX = 3  # asked for one room


@dataclass(frozen=True, slots=True)
class OutsideHierarchy:
    """The `RoomDescriber` of the node."""

    server_name: str
    permits: Callable[[str], bool]
    """Whether this node talks to a server."""
    asking: Asking

    async def describe(
        self, room_id: str, via: Sequence[str], asker: str, *, suggested_only: bool = False
    ) -> DescribedRoom | None:
        """The room as the first server that knows it describes it, else None. Raises LimitExceeded."""
        suggested = (("suggested_only", "true"),) if suggested_only else ()
        for server in self._servers(room_id, via):
            question = Question(
                destination=server,
                path=path_of(PATH, room_id),
                query=suggested,
                bytes_max=ANSWER_BYTES_MAX,
                kept_ms=KEPT_MS,
            )
            try:
                answer = await self.asking.ask(question, asker)
            except RequestFailed as failure:
                log.info("room not described", server=server, room_id=room_id, cause=str(failure))
                continue
            described = checked_hierarchy(answer, room_id, suggested_only)
            if described is not None:
                return described
        return None

    def _servers(self, room_id: str, via: Sequence[str]) -> list[str]:
        """Whom to ask: those named, else the one that made the room, where its id tells."""
        named = list(dict.fromkeys(via))
        if not named:
            try:
                named = [server_name_of(room_id)]
            except BadIdentifier:
                return []
        return [server for server in named if server != self.server_name and self.permits(server)][
            :SERVERS_MAX
        ]


def checked_hierarchy(answer: JsonObject, room_id: str, suggested_only: bool) -> DescribedRoom | None:
    """An answer of another server, without what is of the wrong form; None if it is not of this room."""
    room = answer.get("room")
    summary = checked_summary(room)
    if not isinstance(room, dict) or summary is None or summary["room_id"] != room_id:
        return None
    events = room.get("children_state")
    children_state = [
        event
        for event in (events if isinstance(events, list) else [])[:CHILDREN_MAX]
        if _is_child_event(event) and (not suggested_only or event["content"].get("suggested") is True)
    ]
    children_state.sort(
        key=lambda event: child_order(event["content"], event["origin_server_ts"], event["state_key"])
    )
    named = {event["state_key"] for event in children_state}
    listed = answer.get("children")
    summaries = map(checked_summary, (listed if isinstance(listed, list) else [])[:CHILDREN_MAX])
    closed = answer.get("inaccessible_children")
    return DescribedRoom(
        summary,
        children_state,
        {child["room_id"]: child for child in summaries if child is not None and child["room_id"] in named},
        frozenset(
            each
            for each in (closed if isinstance(closed, list) else [])
            if isinstance(each, str) and each in named
        ),
        len(orjson.dumps(children_state)),
    )


def _is_child_event(event: object) -> bool:
    """Whether this is stripped state with a time, of a child that counts."""
    if not isinstance(event, dict) or event.get("type") != SPACE_CHILD:
        return False
    state_key, content, sender = event.get("state_key"), event.get("content"), event.get("sender")
    sent_ms = event.get("origin_server_ts")
    if not isinstance(state_key, str) or not isinstance(content, dict) or not isinstance(sender, str):
        return False
    if isinstance(sent_ms, bool) or not isinstance(sent_ms, int):
        return False
    try:
        split_user_id(sender)
        check_room_id(state_key)
    except BadIdentifier:
        return False
    return is_child(state_key, content)
