"""Specification file: oauth_server_metadata.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.errors import Unrecognized


async def get_auth_metadata(request: Request) -> web.Response:
    """GET /auth_metadata: `getAuthMetadata`.

    "With M_UNRECOGNIZED: the homeserver does not support the OAuth 2.0 API."
    """
    raise Unrecognized("This server does not use OAuth 2.0: log in with the legacy API")
