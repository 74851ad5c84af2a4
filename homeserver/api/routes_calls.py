"""Routes of calls (MatrixRTC), as today's clients ask for them: under unstable prefixes."""

from __future__ import annotations

from homeserver.api.client import delayed_events
from homeserver.api.router import Auth, Handler, Route

_DELAYED = "/_matrix/client/unstable/org.matrix.msc4140/delayed_events"


def _route(method: str, path: str, handler: Handler, auth: Auth) -> Route:
    return Route(method=method, path=path, handler=handler, auth=auth, limit="user_data")


ROUTES: tuple[Route, ...] = (
    # MSC4140: delayed events
    _route("GET", _DELAYED, delayed_events.get_delayed_events, Auth.GUEST),
    _route("GET", f"{_DELAYED}/{{delayId}}", delayed_events.get_delayed_event, Auth.GUEST),
    _route("POST", f"{_DELAYED}/{{delayId}}", delayed_events.update_delayed_event, Auth.OPTIONAL),
    _route("POST", f"{_DELAYED}/{{delayId}}/{{action}}", delayed_events.act_on_delayed_event, Auth.OPTIONAL),
)
