"""Backups of room keys. Source: key_backup.yaml."""

from __future__ import annotations

from aiohttp import web
from aiohttp.payload import AsyncIterablePayload

from homeserver.api.request import Request, any_field, optional_text_field, text_field
from homeserver.api.response import JSON_HEADERS, empty_response, json_bytes, json_response
from homeserver.errors import InvalidParam


async def post_room_keys_version(request: Request) -> web.Response:
    """POST /room_keys/version: `postRoomKeysVersion`."""
    body = await request.json_object()
    algorithm, auth_data = text_field(body, "algorithm"), any_field(body, "auth_data")
    version = await request.services.key_backups.create(request.requester, algorithm, auth_data)
    return json_response({"version": version})


async def get_room_keys_version_current(request: Request) -> web.Response:
    """GET /room_keys/version: `getRoomKeysVersionCurrent`."""
    return json_response(await request.services.key_backups.get(request.requester, None))


async def get_room_keys_version(request: Request) -> web.Response:
    """GET /room_keys/version/{version}: `getRoomKeysVersion`."""
    return json_response(await request.services.key_backups.get(request.requester, request.params["version"]))


async def put_room_keys_version(request: Request) -> web.Response:
    """PUT /room_keys/version/{version}: `putRoomKeysVersion`."""
    version, body = request.params["version"], await request.json_object()
    algorithm, auth_data = text_field(body, "algorithm"), any_field(body, "auth_data")
    if optional_text_field(body, "version") not in (None, version):
        raise InvalidParam("'version' must be the one in the path, if it is given")
    await request.services.key_backups.update(request.requester, version, algorithm, auth_data)
    return empty_response()


async def delete_room_keys_version(request: Request) -> web.Response:
    """DELETE /room_keys/version/{version}: `deleteRoomKeysVersion`."""
    await request.services.key_backups.delete(request.requester, request.params["version"])
    return empty_response()


async def put_room_keys(request: Request) -> web.Response:
    """PUT /room_keys/keys: `putRoomKeys`."""
    return await _put(request)


async def put_room_keys_by_room_id(request: Request) -> web.Response:
    """PUT /room_keys/keys/{roomId}: `putRoomKeysByRoomId`."""
    return await _put(request)


async def put_room_key_by_session_id(request: Request) -> web.Response:
    """PUT /room_keys/keys/{roomId}/{sessionId}: `putRoomKeyBySessionId`."""
    return await _put(request)


async def get_room_keys(request: Request) -> web.Response:
    """GET /room_keys/keys: `getRoomKeys`."""
    return await _get_many(request)


async def get_room_keys_by_room_id(request: Request) -> web.Response:
    """GET /room_keys/keys/{roomId}: `getRoomKeysByRoomId`."""
    return await _get_many(request)


async def get_room_key_by_session_id(request: Request) -> web.Response:
    """GET /room_keys/keys/{roomId}/{sessionId}: `getRoomKeyBySessionId`."""
    params, version = request.params, request.query_required("version")
    return json_bytes(
        await request.services.key_backups.session(
            request.requester, version, params["roomId"], params["sessionId"]
        )
    )


async def delete_room_keys(request: Request) -> web.Response:
    """DELETE /room_keys/keys: `deleteRoomKeys`."""
    return await _delete(request)


async def delete_room_keys_by_room_id(request: Request) -> web.Response:
    """DELETE /room_keys/keys/{roomId}: `deleteRoomKeysByRoomId`."""
    return await _delete(request)


async def delete_room_key_by_session_id(request: Request) -> web.Response:
    """DELETE /room_keys/keys/{roomId}/{sessionId}: `deleteRoomKeyBySessionId`."""
    return await _delete(request)


async def _put(request: Request) -> web.Response:
    backups, params, version = request.services.key_backups, request.params, request.query_required("version")
    size_bytes = request.raw.content_length
    backups.begin_upload(request.requester, size_bytes)
    try:
        answer = await backups.put(
            request.requester,
            version,
            await request.large_body(),
            room_id=params.get("roomId"),
            session_id=params.get("sessionId"),
        )
    finally:
        backups.end_upload(request.requester, size_bytes)
    return json_response(answer)


async def _get_many(request: Request) -> web.Response:
    version, room_id = request.query_required("version"), request.params.get("roomId")
    pieces = await request.services.key_backups.sessions(request.requester, version, room_id)
    # In pieces: a hundred thousand keys are a hundred megabytes.
    return web.Response(
        body=AsyncIterablePayload(pieces, content_type="application/json"), headers=JSON_HEADERS
    )


async def _delete(request: Request) -> web.Response:
    params, version = request.params, request.query_required("version")
    answer = await request.services.key_backups.delete_sessions(
        request.requester, version, room_id=params.get("roomId"), session_id=params.get("sessionId")
    )
    return json_response(answer)
