"""Routes of reading a room's past, and of reporting what is found there.

Guests may use those that "Guest Access" lists; what they see is decided by the room's history visibility.
"""

from __future__ import annotations

from homeserver.api.client import (
    event_context,
    message_pagination,
    old_sync,
    relations,
    report_content,
    room_event_by_timestamp,
    room_initial_sync,
    rooms,
    thread_subscriptions,
    threads_list,
)
from homeserver.api.router import Auth, Handler, Route

_V1 = "/_matrix/client/v1"
_V3 = "/_matrix/client/v3"
_ROOM = f"{_V3}/rooms/{{roomId}}"
_ROOM_V1 = f"{_V1}/rooms/{{roomId}}"
_UNSTABLE = "/_matrix/client/unstable"
_SUBSCRIPTION = f"{_UNSTABLE}/io.element.msc4306/rooms/{{roomId}}/thread/{{eventId}}/subscription"
_RELATIONS = f"{_ROOM_V1}/relations/{{eventId}}"


def _get(path: str, handler: Handler, *, auth: Auth = Auth.USER) -> Route:
    return Route(method="GET", path=path, handler=handler, auth=auth)


def _report(path: str, handler: Handler) -> Route:
    return Route(method="POST", path=path, handler=handler, auth=Auth.USER, limit="reports")


ROUTES: tuple[Route, ...] = (
    # Getting events for a room
    _get(f"{_ROOM}/messages", message_pagination.get_room_events, auth=Auth.GUEST),
    _get(f"{_ROOM}/context/{{eventId}}", event_context.get_event_context, auth=Auth.GUEST),
    _get(f"{_ROOM}/event/{{eventId}}", rooms.get_one_room_event, auth=Auth.GUEST),
    _get(f"{_V3}/events/{{eventId}}", old_sync.get_one_event),
    _get(f"{_ROOM_V1}/timestamp_to_event", room_event_by_timestamp.get_event_by_timestamp),
    _get(f"{_ROOM}/initialSync", room_initial_sync.room_initial_sync, auth=Auth.GUEST),
    # State and members; "when an empty string, the trailing slash on this endpoint is optional"
    _get(f"{_ROOM}/state", rooms.get_room_state, auth=Auth.GUEST),
    _get(f"{_ROOM}/state/{{eventType}}", rooms.get_room_state_with_key, auth=Auth.GUEST),
    _get(f"{_ROOM}/state/{{eventType}}/{{stateKey}}", rooms.get_room_state_with_key, auth=Auth.GUEST),
    _get(f"{_ROOM}/members", rooms.get_members_by_room, auth=Auth.GUEST),
    _get(f"{_ROOM}/joined_members", rooms.get_joined_members_by_room),
    # Relations and threads
    _get(_RELATIONS, relations.get_relating_events),
    _get(f"{_RELATIONS}/{{relType}}", relations.get_relating_events_with_rel_type),
    _get(
        f"{_RELATIONS}/{{relType}}/{{eventType}}",
        relations.get_relating_events_with_rel_type_and_event_type,
    ),
    _get(f"{_ROOM_V1}/threads", threads_list.get_thread_roots),
    # Thread subscriptions, before they are in the specification
    _get(_SUBSCRIPTION, thread_subscriptions.get_thread_subscription),
    Route(method="PUT", path=_SUBSCRIPTION, handler=thread_subscriptions.subscribe_to_thread, auth=Auth.USER),
    Route(
        method="DELETE",
        path=_SUBSCRIPTION,
        handler=thread_subscriptions.unsubscribe_from_thread,
        auth=Auth.USER,
    ),
    _get(
        f"{_UNSTABLE}/io.element.msc4308/thread_subscriptions", thread_subscriptions.get_thread_subscriptions
    ),
    # Reporting content
    _report(f"{_ROOM}/report", report_content.report_room),
    _report(f"{_ROOM}/report/{{eventId}}", report_content.report_event),
    _report(f"{_V3}/users/{{userId}}/report", report_content.report_user),
)
