"""What the user was notified of. Source: notifications.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import json_bytes

LIMIT_DEFAULT = 20
POSITION_MAX = 2**62


async def get_notifications(request: Request) -> web.Response:
    """GET /notifications: `getNotifications`."""
    page = await request.services.notifications.page(
        request.requester,
        request.query_int("from", 0, most=POSITION_MAX) or None,
        request.query_int("limit", LIMIT_DEFAULT, least=1),
        only_highlights=request.query("only") == "highlight",
    )
    next_token = b"" if page.before is None else b',"next_token":"%d"' % page.before
    return json_bytes(b'{"notifications":[%b]%b}' % (b",".join(page.notifications), next_token))
