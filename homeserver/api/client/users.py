"""The user directory. Source: users.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request, text_field
from homeserver.api.response import json_response
from homeserver.errors import BadJson
from homeserver.rooms.user_directory import RESULTS_DEFAULT


async def search_user_directory(request: Request) -> web.Response:
    """POST /user_directory/search: `searchUserDirectory`."""
    body = await request.json_object()
    limit = body.get("limit", RESULTS_DEFAULT)
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise BadJson("'limit' must be an integer")
    users, limited = await request.services.user_directory.search(
        request.requester, text_field(body, "search_term"), limit
    )
    results: list[dict[str, str]] = []
    for user in users:
        result = {"user_id": user.user_id}
        if user.displayname is not None:
            result["display_name"] = user.displayname
        if user.avatar_url is not None:
            result["avatar_url"] = user.avatar_url
        results.append(result)
    return json_response({"results": results, "limited": limited})
