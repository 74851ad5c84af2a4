"""Specification file: server-server/user_keys.yaml."""

from __future__ import annotations

from aiohttp import web

from homeserver.api.request import Request
from homeserver.api.response import json_bytes
from homeserver.encryption.key_claims import read_wanted_keys
from homeserver.encryption.key_queries import read_wanted


async def query_user_encryption_keys(request: Request) -> web.Response:
    """POST /_matrix/federation/v1/user/keys/query: `queryUserEncryptionKeys`."""
    wanted = read_wanted((await request.json_object()).get("device_keys"))
    return json_bytes(await request.services.user_key_answers.query(wanted))


async def claim_user_encryption_keys(request: Request) -> web.Response:
    """POST /_matrix/federation/v1/user/keys/claim: `claimUserEncryptionKeys`."""
    wanted = read_wanted_keys((await request.json_object()).get("one_time_keys"))
    return json_bytes(await request.services.user_key_answers.claim(wanted))
