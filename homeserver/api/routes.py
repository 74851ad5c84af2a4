"""All routes, by the purpose of the listener that serves them."""

from __future__ import annotations

from collections.abc import Iterable

from homeserver.api import (
    health,
    metrics,
    routes_accounts,
    routes_calls,
    routes_directory,
    routes_encryption,
    routes_federation,
    routes_history,
    routes_key_backup,
    routes_rooms,
    routes_sync,
    routes_users,
)
from homeserver.api.router import Auth, Route
from homeserver.config.node import Purpose

COMMON = (Route(method="GET", path="/health", handler=health.get_health, auth=Auth.NONE),)
CLIENT = (
    *routes_accounts.ROUTES,
    *routes_users.ROUTES,
    *routes_rooms.ROUTES,
    *routes_history.ROUTES,
    *routes_directory.ROUTES,
    *routes_sync.ROUTES,
    *routes_key_backup.ROUTES,
    *routes_calls.ROUTES,
    *routes_encryption.ROUTES,
)
METRICS = (Route(method="GET", path="/metrics", handler=metrics.get_metrics, auth=Auth.NONE),)

BY_PURPOSE: dict[Purpose, tuple[Route, ...]] = {
    "client": CLIENT,
    "federation": routes_federation.ROUTES,
    "metrics": METRICS,
}


def routes_for(purposes: Iterable[Purpose]) -> list[Route]:
    """The routes of a listener, each once."""
    routes = [*COMMON, *(route for purpose in purposes for route in BY_PURPOSE[purpose])]
    return list({(route.method, route.path): route for route in routes}.values())
