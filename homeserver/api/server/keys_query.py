"""Specification file: server-server/keys_query.yaml."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import json_response
from homeserver.errors import BadJson
from homeserver.federating.notary import Wanted

TIME_MAX_MS = 2**53 - 1
KEYS_MAX = 64  # of one server, that are looked for
KEY_ID_LENGTH_MAX = 255


async def perspectives_key_query(request: Request) -> web.Response:
    """GET /_matrix/key/v2/query/{serverName}: `perspectivesKeyQuery`."""
    until_ms = request.query_int("minimum_valid_until_ts", 0) or None
    wanted = Wanted(until_ms, [request.params["keyId"]] if "keyId" in request.params else ())
    return json_response(await request.services.notary.query({request.params["serverName"]: wanted}))


async def bulk_perspectives_key_query(request: Request) -> web.Response:
    """POST /_matrix/key/v2/query: `bulkPerspectivesKeyQuery`."""
    wanted = (await request.json_object()).get("server_keys")
    if not isinstance(wanted, dict):
        raise BadJson("'server_keys' must be an object of server names")
    return json_response(
        await request.services.notary.query({server: _wanted(keys) for server, keys in wanted.items()})
    )


def _wanted(keys: Any) -> Wanted:
    """One server's keys, and the latest of the times that a query names for them. Raises BadJson."""
    if not isinstance(keys, dict) or not all(isinstance(criteria, dict) for criteria in keys.values()):
        raise BadJson("The keys of a server must be objects by key ID")
    times = [
        criteria["minimum_valid_until_ts"]
        for criteria in keys.values()
        if criteria.get("minimum_valid_until_ts") is not None
    ]
    if not all(type(time) is int and 0 <= time <= TIME_MAX_MS for time in times):
        raise BadJson("'minimum_valid_until_ts' must be a time in milliseconds")
    return Wanted(
        max(times, default=None), [key_id for key_id in keys if len(key_id) <= KEY_ID_LENGTH_MAX][:KEYS_MAX]
    )
