"""Specification file: account_deactivation.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.accounts.user_interactive import OWN_PASSWORD
from homeserver.api.request import Request, flag_field
from homeserver.api.response import json_response


async def deactivate_account(request: Request) -> web.Response:
    """POST /account/deactivate: `deactivateAccount`."""
    body, services, requester = await request.json_object(), request.services, request.requester
    erase = flag_field(body, "erase", False)
    await services.user_interactive.require(
        "POST /account/deactivate", body, OWN_PASSWORD, requester, request.address
    )
    await services.account_management.deactivate(requester.user_nid, requester.user_id, erase=erase)
    # "This must be success if the homeserver has no identifiers to unbind for the user."
    return json_response({"id_server_unbind_result": "success"})
