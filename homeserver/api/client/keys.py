"""Specification file: keys.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import json_bytes, json_response
from homeserver.encryption.key_claims import read_wanted_keys
from homeserver.encryption.key_queries import read_wanted
from homeserver.errors import BadJson, MissingParam
from homeserver.sync.token import parse_token

TIMEOUT_MS = 10_000  # "10 seconds is the recommended default"


async def upload_keys(request: Request) -> web.Response:
    """POST /keys/upload: `uploadKeys`."""
    counts = await request.services.key_uploads.upload(request.requester, await request.json_object())
    return json_response({"one_time_key_counts": counts})


async def query_keys(request: Request) -> web.Response:
    """POST /keys/query: `queryKeys`."""
    body = await request.json_object()
    if "device_keys" not in body:
        raise MissingParam("'device_keys' is required: user ids with lists of device ids")
    wanted = read_wanted(body["device_keys"])
    answer = await request.services.key_queries.query(
        request.requester, wanted, _timeout_ms(body.get("timeout"))
    )
    return json_bytes(answer)


async def claim_keys(request: Request) -> web.Response:
    """POST /keys/claim: `claimKeys`."""
    body = await request.json_object()
    if "one_time_keys" not in body:
        raise MissingParam("'one_time_keys' is required: user ids with device ids and algorithms")
    wanted = read_wanted_keys(body["one_time_keys"])
    return json_bytes(await request.services.key_claims.claim(wanted, _timeout_ms(body.get("timeout"))))


async def get_keys_changes(request: Request) -> web.Response:
    """GET /keys/changes: `getKeysChanges`."""
    since, _ = parse_token(request.query_required("from")), parse_token(request.query_required("to"))
    news = await request.services.device_changes.since(request.requester, since.position)
    return json_response({"changed": list(news.changed), "left": list(news.left)})


def _timeout_ms(value: object) -> int:
    if value is None:
        return TIMEOUT_MS
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise BadJson("'timeout' must be a number of milliseconds")
    return value
