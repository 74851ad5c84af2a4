"""Events that are sent later. Source: MSC4140, under its unstable prefix, as Element Call asks for it.

Whoever knows a delay id may restart, send or cancel that event without an access token: clients hand the id
to services that see when they are gone.
"""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request, text_field
from homeserver.api.response import empty_response, json_response
from homeserver.errors import InvalidParam

DELAY = "org.matrix.msc4140.delay"


def delay_of(request: Request) -> int | None:
    """The delay in milliseconds that a sending asks for, if any. Raises InvalidParam."""
    text = request.query(DELAY)
    if text == "":
        raise InvalidParam(f"{DELAY} must be a number of milliseconds")
    return None if text is None else request.query_int(DELAY, 0)


async def get_delayed_events(request: Request) -> web.Response:
    """GET /delayed_events."""
    scheduled = await request.services.delayed_events.all(request.requester)
    return json_response({"delayed_events": scheduled, "scheduled": scheduled})


async def get_delayed_event(request: Request) -> web.Response:
    """GET /delayed_events/{delayId}."""
    return json_response(
        await request.services.delayed_events.one(request.requester, request.params["delayId"])
    )


async def update_delayed_event(request: Request) -> web.Response:
    """POST /delayed_events/{delayId}: the action in the body, as older clients have it."""
    return await _act(request, text_field(await request.json_object(), "action"))


async def act_on_delayed_event(request: Request) -> web.Response:
    """POST /delayed_events/{delayId}/{action}."""
    return await _act(request, request.params["action"])


async def _act(request: Request, action: str) -> web.Response:
    delayed, delay_id = request.services.delayed_events, request.params["delayId"]
    match action:
        case "cancel":
            await delayed.cancel(delay_id)
        case "restart":
            await delayed.restart(delay_id)
        case "send":
            await delayed.send(delay_id)
        case _:
            raise InvalidParam("'action' must be one of cancel, restart and send")
    return empty_response()
