"""Thread subscriptions (MSC4306), and pages of what changed of them (MSC4308)."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request, optional_text_field
from homeserver.api.response import json_response
from homeserver.rooms.thread_subscriptions import PAGE_MAX


async def get_thread_subscription(request: Request) -> web.Response:
    """GET /rooms/{roomId}/thread/{eventId}/subscription."""
    room_id, root_id = request.params["roomId"], request.params["eventId"]
    return json_response(await request.services.thread_subscriptions.get(request.requester, room_id, root_id))


async def subscribe_to_thread(request: Request) -> web.Response:
    """PUT /rooms/{roomId}/thread/{eventId}/subscription: `automatic` names the event that is the reason."""
    room_id, root_id = request.params["roomId"], request.params["eventId"]
    cause = optional_text_field(await request.json_object(), "automatic", most_bytes=255)
    await request.services.thread_subscriptions.subscribe(request.requester, room_id, root_id, cause)
    return json_response({})


async def unsubscribe_from_thread(request: Request) -> web.Response:
    """DELETE /rooms/{roomId}/thread/{eventId}/subscription."""
    room_id, root_id = request.params["roomId"], request.params["eventId"]
    await request.services.thread_subscriptions.unsubscribe(request.requester, room_id, root_id)
    return json_response({})


async def get_thread_subscriptions(request: Request) -> web.Response:
    """GET /thread_subscriptions: backwards from the newest."""
    request.query_choice("dir", ("b",), "b")
    page = await request.services.thread_subscriptions.page(
        request.requester,
        request.query("from") or None,
        request.query("to") or None,
        request.query_int("limit", PAGE_MAX, least=1),
    )
    return json_response(page.body("end"))
