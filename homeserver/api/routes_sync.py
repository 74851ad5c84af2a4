"""Routes of sync and its older relatives."""

from __future__ import annotations

from homeserver.api.client import old_sync, sliding_sync, sync
from homeserver.api.router import Auth, Handler, Route

V3 = "/_matrix/client/v3"

UNSTABLE_SLIDING_SYNC = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"
SLIDING_BODY_MAX_BYTES = 256 * 1024  # many times what clients send


def _sliding(path: str, handler: Handler) -> Route:
    return Route(
        method="POST", path=path, handler=handler, auth=Auth.GUEST, body_max_bytes=SLIDING_BODY_MAX_BYTES
    )


ROUTES: tuple[Route, ...] = (
    Route(method="GET", path=f"{V3}/sync", handler=sync.sync, auth=Auth.GUEST),
    _sliding("/_matrix/client/v4/sync", sliding_sync.sliding_sync),
    _sliding(UNSTABLE_SLIDING_SYNC, sliding_sync.unstable_sliding_sync),
    Route(method="GET", path=f"{V3}/events", handler=old_sync.get_events, auth=Auth.GUEST),
    Route(method="GET", path=f"{V3}/initialSync", handler=old_sync.initial_sync, auth=Auth.USER),
)
