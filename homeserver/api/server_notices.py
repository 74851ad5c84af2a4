"""Sending server notices, as the administration API of Synapse has it, which tools know.

Source: Synapse documentation, "Server Notices".
"""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request, optional_text_field, text_field
from homeserver.api.response import json_response
from homeserver.errors import BadJson, MissingParam
from homeserver.rooms.server_notices import MESSAGE, Notice


async def send_server_notice(request: Request) -> web.Response:
    """POST /_synapse/admin/v1/send_server_notice, or PUT …/{txnId}: send a notice to a user of this node."""
    body = await request.json_object()
    user_id = text_field(body, "user_id")
    if "content" not in body:
        raise MissingParam("'content' is required: the notice's event content")
    if not isinstance(body["content"], dict):
        raise BadJson("'content' must be an object")
    txn_id = request.params.get("txnId")
    notice = Notice(
        content=body["content"],
        type=optional_text_field(body, "type") or MESSAGE,
        state_key=optional_text_field(body, "state_key"),
        device_nid=request.requester.device_nid if txn_id is not None else None,
        txn_id=txn_id,
    )
    return json_response({"event_id": await request.services.server_notices.send(user_id, notice)})
