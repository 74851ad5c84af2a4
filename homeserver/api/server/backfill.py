"""Specification file: server-server/backfill.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import json_bytes
from homeserver.errors import BadJson, MissingParam

MISSING_DEFAULT = 10
INTEGER_MAX = 2**53 - 1


async def backfill_room(request: Request) -> web.Response:
    """GET /_matrix/federation/v1/backfill/{roomId}: `backfillRoom`."""
    event_ids = request.query_all("v")
    if not event_ids or request.query("limit") in (None, ""):
        raise MissingParam("The query parameters 'v' and 'limit' are required")
    limit = request.query_int("limit", 1, least=1)
    return json_bytes(
        await request.services.event_answers.backfill(
            request.origin, request.params["roomId"], event_ids, limit
        )
    )


async def get_missing_previous_events(request: Request) -> web.Response:
    """POST /_matrix/federation/v1/get_missing_events/{roomId}: `getMissingPreviousEvents`."""
    body = await request.json_object()
    return json_bytes(
        await request.services.event_answers.missing_events(
            request.origin,
            request.params["roomId"],
            _event_ids(body.get("earliest_events", []), "earliest_events"),
            _event_ids(body.get("latest_events", []), "latest_events"),
            _count(body.get("min_depth", 0), "min_depth"),
            _count(body.get("limit", MISSING_DEFAULT), "limit"),
        )
    )


def _event_ids(value: object, name: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(event_id, str) for event_id in value):
        raise BadJson(f"{name!r} must be a list of event ids")
    return value


def _count(value: object, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise BadJson(f"{name!r} must be an integer, at least 0")
    return min(value, INTEGER_MAX)
