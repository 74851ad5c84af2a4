"""Specification file: administrative_contact.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import json_response


async def get_account3_pids(request: Request) -> web.Response:
    """GET /account/3pid: `getAccount3PIDs`. Accounts have none: `m.3pid_changes` says so."""
    return json_response({"threepids": []})
