"""Routes of sync and its older relatives."""

from __future__ import annotations

from homeserver.api.client import old_sync, sliding_sync, sync
from homeserver.api.router import Auth, Route

V3 = "/_matrix/client/v3"

UNSTABLE_SLIDING_SYNC = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"

ROUTES: tuple[Route, ...] = (
    Route(method="GET", path=f"{V3}/sync", handler=sync.sync, auth=Auth.GUEST),
    Route(method="POST", path="/_matrix/client/v4/sync", handler=sliding_sync.sliding_sync, auth=Auth.GUEST),
    Route(
        method="POST", path=UNSTABLE_SLIDING_SYNC, handler=sliding_sync.unstable_sliding_sync, auth=Auth.GUEST
    ),
    Route(method="GET", path=f"{V3}/events", handler=old_sync.get_events, auth=Auth.GUEST),
    Route(method="GET", path=f"{V3}/initialSync", handler=old_sync.initial_sync, auth=Auth.USER),
)
