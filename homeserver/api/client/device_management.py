"""Specification file: device_management.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.accounts.user_interactive import OWN_PASSWORD
from homeserver.api.request import Request, optional_text_field
from homeserver.api.response import empty_response, json_response
from homeserver.errors import BadJson, InvalidParam, MissingParam

DEVICES_MAX = 10_000  # in one request


async def get_devices(request: Request) -> web.Response:
    """GET /devices: `getDevices`."""
    return json_response({"devices": await request.services.devices.all(request.requester)})


async def get_device(request: Request) -> web.Response:
    """GET /devices/{deviceId}: `getDevice`."""
    return json_response(await request.services.devices.one(request.requester, request.params["deviceId"]))


async def update_device(request: Request) -> web.Response:
    """PUT /devices/{deviceId}: `updateDevice`."""
    name = optional_text_field(await request.json_object(), "display_name")
    await request.services.devices.rename(request.requester, request.params["deviceId"], name)
    return empty_response()


async def delete_device(request: Request) -> web.Response:
    """DELETE /devices/{deviceId}: `deleteDevice`."""
    body, services, device_id = await request.json_object(), request.services, request.params["deviceId"]
    await services.user_interactive.require(
        f"DELETE /devices/{device_id}", body, OWN_PASSWORD, request.requester, request.address
    )
    await services.devices.delete(request.requester, (device_id,))
    return empty_response()


async def delete_devices(request: Request) -> web.Response:
    """POST /delete_devices: `deleteDevices`."""
    body, services = await request.json_object(), request.services
    device_ids = body.get("devices")
    if device_ids is None:
        raise MissingParam("'devices' is required: a list of device ids")
    if not isinstance(device_ids, list) or not all(isinstance(one, str) for one in device_ids):
        raise BadJson("'devices' must be a list of device ids")
    if len(device_ids) > DEVICES_MAX or any("\x00" in one for one in device_ids):
        raise InvalidParam("'devices' is too long or holds what is no device id")
    await services.user_interactive.require(
        "POST /delete_devices", body, OWN_PASSWORD, request.requester, request.address
    )
    await services.devices.delete(request.requester, device_ids)
    return empty_response()
