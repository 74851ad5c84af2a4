"""Third-party networks: none is bridged to this node, as long as it has no application services.

Specification file: third_party_lookup.yaml.
"""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import empty_response
from homeserver.errors import NotFound


async def get_protocols(request: Request) -> web.Response:
    """GET /thirdparty/protocols: `getProtocols`."""
    return empty_response()


async def get_protocol_metadata(request: Request) -> web.Response:
    """GET /thirdparty/protocol/{protocol}: `getProtocolMetadata`."""
    raise NotFound("This server knows no such protocol")


async def query_location_by_protocol(request: Request) -> web.Response:
    """GET /thirdparty/location/{protocol}: `queryLocationByProtocol`."""
    raise NotFound("No portal rooms were found")


async def query_user_by_protocol(request: Request) -> web.Response:
    """GET /thirdparty/user/{protocol}: `queryUserByProtocol`."""
    raise NotFound("No such user was found")


async def query_location_by_alias(request: Request) -> web.Response:
    """GET /thirdparty/location: `queryLocationByAlias`."""
    request.query_required("alias")
    raise NotFound("No third-party location has this room alias")


async def query_user_by_id(request: Request) -> web.Response:
    """GET /thirdparty/user: `queryUserByID`."""
    request.query_required("userid")
    raise NotFound("No third-party user has this user id")
