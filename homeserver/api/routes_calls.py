"""Routes of calls (MatrixRTC), as today's clients ask for them: under unstable prefixes."""

from __future__ import annotations

from homeserver.accounts.discovery import LIVEKIT_PATH
from homeserver.api import livekit_tokens
from homeserver.api.client import delayed_events, rtc_transports
from homeserver.api.router import Auth, Handler, Route

_DELAYED = "/_matrix/client/unstable/org.matrix.msc4140/delayed_events"

_TRANSPORTS = "/_matrix/client/unstable/org.matrix.msc4143/rtc/transports"


def _route(method: str, path: str, handler: Handler, auth: Auth, limit: str = "user_data") -> Route:
    return Route(method=method, path=path, handler=handler, auth=auth, limit=limit)


ROUTES: tuple[Route, ...] = (
    # MSC4140: delayed events
    _route("GET", _DELAYED, delayed_events.get_delayed_events, Auth.GUEST),
    _route("GET", f"{_DELAYED}/{{delayId}}", delayed_events.get_delayed_event, Auth.GUEST),
    _route("POST", f"{_DELAYED}/{{delayId}}", delayed_events.update_delayed_event, Auth.OPTIONAL),
    _route("POST", f"{_DELAYED}/{{delayId}}/{{action}}", delayed_events.act_on_delayed_event, Auth.OPTIONAL),
    # MSC4143: where calls can take place; MSC4195: tokens for LiveKit, by an OpenID token in the body
    _route("GET", _TRANSPORTS, rtc_transports.get_rtc_transports, Auth.GUEST),
    _route("POST", f"{LIVEKIT_PATH}/sfu/get", livekit_tokens.get_sfu, Auth.NONE, "calls"),
    _route("POST", f"{LIVEKIT_PATH}/get_token", livekit_tokens.get_token, Auth.NONE, "calls"),
)
