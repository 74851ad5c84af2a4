"""For Prometheus."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.metrics import CONTENT_TYPE


async def get_metrics(request: Request) -> web.Response:
    """GET /metrics: all metrics of this process."""
    return web.Response(body=request.services.metrics.render(), headers={"Content-Type": CONTENT_TYPE})
