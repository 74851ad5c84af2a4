"""Routes of what users keep on the node and tell each other: profiles, settings, receipts, presence."""

from __future__ import annotations

from homeserver.api.client import (
    account_data,
    filter,
    mutual_rooms,
    notifications,
    presence,
    profile,
    pushrules,
    read_markers,
    receipts,
    tags,
    typing,
    users,
    voip,
)
from homeserver.api.router import Auth, Handler, Route

_V3 = "/_matrix/client/v3"
_USER = f"{_V3}/user/{{userId}}"
_ROOM_OF_USER = f"{_USER}/rooms/{{roomId}}"
_RULE = f"{_V3}/pushrules/global/{{kind}}/{{ruleId}}"
_PROFILE_FIELD = f"{_V3}/profile/{{userId}}/{{keyName}}"
_PRESENCE = f"{_V3}/presence/{{userId}}/status"


def _user(method: str, path: str, handler: Handler, *, limit: str | None = None) -> Route:
    return Route(method=method, path=path, handler=handler, auth=Auth.USER, limit=limit)


def _edit(method: str, path: str, handler: Handler) -> Route:
    return _user(method, path, handler, limit="user_data")


def _profile_edit(method: str, handler: Handler) -> Route:
    # Guests may change their display name, which the service checks.
    return Route(
        method=method,
        path=_PROFILE_FIELD,
        handler=handler,
        auth=Auth.GUEST,
        limit="profile",
        while_suspended=False,
    )


ROUTES: tuple[Route, ...] = (
    Route(method="GET", path=f"{_V3}/profile/{{userId}}", handler=profile.get_user_profile, auth=Auth.NONE),
    Route(method="GET", path=_PROFILE_FIELD, handler=profile.get_profile_field, auth=Auth.NONE),
    _profile_edit("PUT", profile.set_profile_field),
    _profile_edit("DELETE", profile.delete_profile_field),
    _user("GET", f"{_USER}/account_data/{{type}}", account_data.get_account_data),
    _edit("PUT", f"{_USER}/account_data/{{type}}", account_data.set_account_data),
    _user("GET", f"{_ROOM_OF_USER}/account_data/{{type}}", account_data.get_account_data_per_room),
    _edit("PUT", f"{_ROOM_OF_USER}/account_data/{{type}}", account_data.set_account_data_per_room),
    _user("GET", f"{_ROOM_OF_USER}/tags", tags.get_room_tags),
    _edit("PUT", f"{_ROOM_OF_USER}/tags/{{tag}}", tags.set_room_tag),
    _edit("DELETE", f"{_ROOM_OF_USER}/tags/{{tag}}", tags.delete_room_tag),
    _edit("POST", f"{_USER}/filter", filter.define_filter),
    _user("GET", f"{_USER}/filter/{{filterId}}", filter.get_filter),
    _user("GET", f"{_V3}/pushrules/", pushrules.get_push_rules),
    _user("GET", f"{_V3}/pushrules/global/", pushrules.get_push_rules_global),
    _user("GET", _RULE, pushrules.get_push_rule),
    _edit("PUT", _RULE, pushrules.set_push_rule),
    _edit("DELETE", _RULE, pushrules.delete_push_rule),
    _user("GET", f"{_RULE}/enabled", pushrules.is_push_rule_enabled),
    _edit("PUT", f"{_RULE}/enabled", pushrules.set_push_rule_enabled),
    _user("GET", f"{_RULE}/actions", pushrules.get_push_rule_actions),
    _edit("PUT", f"{_RULE}/actions", pushrules.set_push_rule_actions),
    _user("GET", f"{_V3}/notifications", notifications.get_notifications),
    _edit("POST", f"{_V3}/rooms/{{roomId}}/receipt/{{receiptType}}/{{eventId}}", receipts.post_receipt),
    _edit("POST", f"{_V3}/rooms/{{roomId}}/read_markers", read_markers.set_read_marker),
    _edit("PUT", f"{_V3}/rooms/{{roomId}}/typing/{{userId}}", typing.set_typing),
    _user("GET", _PRESENCE, presence.get_presence),
    _edit("PUT", _PRESENCE, presence.set_presence),
    _user("POST", f"{_V3}/user_directory/search", users.search_user_directory, limit="search"),
    _user("GET", f"{_V3}/voip/turnServer", voip.get_turn_server, limit="user_data"),
    _user("GET", "/_matrix/client/v1/mutual_rooms", mutual_rooms.get_mutual_rooms),
)
