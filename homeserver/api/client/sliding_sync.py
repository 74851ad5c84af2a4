"""Simplified sliding sync (MSC4186), on its stable path and on the one that current clients call."""

from __future__ import annotations

from aiohttp import web

from federation.event import JsonObject
from homeserver.api.client.sync import PRESENCE
from homeserver.api.request import Request, optional_text_field
from homeserver.api.response import json_bytes
from homeserver.errors import BadJson, InvalidParam
from homeserver.sync.sliding.request import STABLE, UNSTABLE
from homeserver.sync.sliding.service import Call

ID_BYTES_MAX = 255  # of conn_id and txn_id


async def sliding_sync(request: Request) -> web.Response:
    """POST /sync: everything is in the body."""
    body = await request.json_object()
    call = Call(
        pos=optional_text_field(body, "pos") or None,
        timeout_ms=_timeout(body),
        set_presence=_presence(body),
        conn_id=optional_text_field(body, "conn_id", most_bytes=ID_BYTES_MAX) or "",
    )
    kept = {name: each for name, each in body.items() if name not in ("pos", "timeout", "set_presence")}
    return json_bytes(await request.services.sliding_sync.sync(request.requester, call, kept, STABLE))


async def unstable_sliding_sync(request: Request) -> web.Response:
    """POST /sync, as it was while the proposal was a draft: the token and the timeout are in the query."""
    body = await request.json_object()
    call = Call(
        pos=request.query("pos") or None,
        timeout_ms=request.query_int("timeout", 0),
        set_presence=request.query_choice("set_presence", PRESENCE, "online"),
        conn_id=optional_text_field(body, "conn_id", most_bytes=ID_BYTES_MAX) or "",
        txn_id=optional_text_field(body, "txn_id", most_bytes=ID_BYTES_MAX),
    )
    kept = {name: each for name, each in body.items() if name != "txn_id"}
    return json_bytes(await request.services.sliding_sync.sync(request.requester, call, kept, UNSTABLE))


def _timeout(body: JsonObject) -> int:
    timeout = body.get("timeout", 0)
    if not isinstance(timeout, int) or isinstance(timeout, bool) or timeout < 0:
        raise BadJson("timeout must be a number of milliseconds")
    return timeout


def _presence(body: JsonObject) -> str:
    presence = optional_text_field(body, "set_presence") or "online"
    if presence not in PRESENCE:
        raise InvalidParam(f"set_presence must be one of {', '.join(PRESENCE)}")
    return presence
