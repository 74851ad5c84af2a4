"""Modules › Reporting Content: report_content.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request, text_field
from homeserver.api.response import empty_response

REASON_LENGTH_MAX = 10_000


async def _reason(request: Request) -> str:
    return text_field(await request.json_object(), "reason", most_bytes=REASON_LENGTH_MAX)


async def report_room(request: Request) -> web.Response:
    """POST /rooms/{roomId}/report: `reportRoom`."""
    reason = await _reason(request)
    await request.services.reports.report_room(request.requester, request.params["roomId"], reason)
    return empty_response()


async def report_event(request: Request) -> web.Response:
    """POST /rooms/{roomId}/report/{eventId}: `reportEvent`."""
    reason = await _reason(request)
    await request.services.reports.report_event(
        request.requester, request.params["roomId"], request.params["eventId"], reason
    )
    return empty_response()


async def report_user(request: Request) -> web.Response:
    """POST /users/{userId}/report: `reportUser`."""
    reason = await _reason(request)
    await request.services.reports.report_user(request.requester, request.params["userId"], reason)
    return empty_response()
