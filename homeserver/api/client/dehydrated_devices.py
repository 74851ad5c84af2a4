"""Dehydrated devices (MSC3814), under the name that clients know. There is no specification file yet."""

from __future__ import annotations

import orjson
from aiohttp import web

from homeserver.api.request import Request, optional_text_field
from homeserver.api.response import json_bytes, json_response
from homeserver.encryption.dehydrated_devices import EVENTS_MAX


async def put_dehydrated_device(request: Request) -> web.Response:
    """PUT /dehydrated_device."""
    body = await request.json_object()
    device_id = await request.services.dehydrated_devices.put(request.requester, body)
    return json_response({"device_id": device_id})


async def get_dehydrated_device(request: Request) -> web.Response:
    """GET /dehydrated_device."""
    device_id, data = await request.services.dehydrated_devices.get(request.requester)
    return json_bytes(b'{"device_id":%b,"device_data":%b}' % (orjson.dumps(device_id), data))


async def delete_dehydrated_device(request: Request) -> web.Response:
    """DELETE /dehydrated_device."""
    return json_response({"device_id": await request.services.dehydrated_devices.delete(request.requester)})


async def get_dehydrated_events(request: Request) -> web.Response:
    """POST /dehydrated_device/{deviceId}/events."""
    since = optional_text_field(await request.json_object(), "next_batch")
    limit = request.query_int("limit", EVENTS_MAX, least=1)
    events, next_batch = await request.services.dehydrated_devices.events(
        request.requester, request.params["deviceId"], since, limit
    )
    return json_bytes(b'{"events":[%b],"next_batch":"%b"}' % (b",".join(events), next_batch.encode()))
