"""Routes of sync and its older relatives."""

from __future__ import annotations

from homeserver.api.client import old_sync, sync
from homeserver.api.router import Auth, Route

V3 = "/_matrix/client/v3"

ROUTES: tuple[Route, ...] = (
    Route(method="GET", path=f"{V3}/sync", handler=sync.sync, auth=Auth.GUEST),
    Route(method="GET", path=f"{V3}/events", handler=old_sync.get_events, auth=Auth.GUEST),
    Route(method="GET", path=f"{V3}/initialSync", handler=old_sync.initial_sync, auth=Auth.USER),
)
