"""The companies' users and the room that they share, made through the Client-Server API like anyone's."""

from __future__ import annotations

import hashlib
import hmac
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import aiohttp

from scripts.companies.company import PEOPLE, Company

ALIAS = "everyone"
WELCOME = "Welcome: whatever is written here is on every company's server."
REGISTER = "/_synapse/admin/v1/register"
_transactions = itertools.count()


class Refused(Exception):
    """A node said no; ``errcode`` is the specification's."""

    def __init__(self, what: str, status: int, answer: dict[str, Any]) -> None:
        self.status = status
        self.errcode = str(answer.get("errcode", ""))
        super().__init__(f"{what}: {status} {self.errcode} {answer.get('error', '')}".rstrip())


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who is logged in."""

    http: aiohttp.ClientSession
    company: Company
    user_id: str
    token: str

    async def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """An answer's JSON. Raises Refused."""
        return await call(self.http, self.company, method, f"/_matrix/client/v3{path}", body, self.token)


async def call(
    http: aiohttp.ClientSession,
    company: Company,
    method: str,
    path: str,
    body: dict[str, Any] | None = None,
    token: str | None = None,
) -> Any:
    """An answer's JSON. Raises Refused, aiohttp.ClientError."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with http.request(method, company.url + path, json=body, headers=headers) as response:
        answer = await response.json(content_type=None)
        if response.status >= 400:
            raise Refused(f"{company.name}: {method} {path}", response.status, answer)
        return answer


async def log_in(http: aiohttp.ClientSession, company: Company, name: str) -> Person:
    """The user, who is registered first if need be; the first name is the company's administrator."""
    identifier = {"type": "m.id.user", "user": name}
    body = {"type": "m.login.password", "identifier": identifier, "password": company.password(name)}
    body["device_id"] = "NETWORK"  # the same on each run
    try:
        made = await call(http, company, "POST", "/_matrix/client/v3/login", body)
    except Refused as refusal:
        if refusal.errcode != "M_FORBIDDEN":
            raise
        await _register(http, company, name)
        made = await call(http, company, "POST", "/_matrix/client/v3/login", body)
    return Person(http, company, made["user_id"], made["access_token"])


async def _register(http: aiohttp.ClientSession, company: Company, name: str) -> None:
    password, is_admin = company.password(name), name == PEOPLE[0]
    nonce = (await call(http, company, "GET", REGISTER))["nonce"]
    signed = "\0".join((nonce, name, password, "admin" if is_admin else "notadmin"))
    secret = company.secret_file.read_text().strip()
    mac = hmac.new(secret.encode(), signed.encode(), hashlib.sha1).hexdigest()
    body = {"nonce": nonce, "username": name, "password": password, "admin": is_admin, "mac": mac}
    await call(http, company, "POST", REGISTER, body)
    person = await log_in(http, company, name)
    field = f"/profile/{quote(person.user_id)}/displayname"
    await person.call("PUT", field, {"displayname": f"{name.title()} of {company.name.title()}"})


async def meet(people: Sequence[Person]) -> str:
    """Have everybody in the shared room, which the first one makes; returns its alias. Raises Refused."""
    host = people[0]
    alias = f"#{ALIAS}:{host.company.server_name}"
    try:
        room_id = (await host.call("GET", f"/directory/room/{quote(alias)}"))["room_id"]
    except Refused as refusal:
        if refusal.errcode != "M_NOT_FOUND":
            raise
        body = {"preset": "private_chat", "room_alias_name": ALIAS, "name": "Everyone, in all companies"}
        room_id = (await host.call("POST", "/createRoom", body))["room_id"]
        text = {"msgtype": "m.text", "body": WELCOME}
        await host.call("PUT", f"/rooms/{quote(room_id)}/send/m.room.message/{next(_transactions)}", text)
    members = await host.call("GET", f"/rooms/{quote(room_id)}/members")
    memberships = {event["state_key"]: event["content"]["membership"] for event in members["chunk"]}
    for person in people[1:]:
        if memberships.get(person.user_id) == "join":
            continue
        if memberships.get(person.user_id) != "invite":
            await host.call("POST", f"/rooms/{quote(room_id)}/invite", {"user_id": person.user_id})
        await person.call("POST", f"/join/{quote(room_id)}?via={host.company.server_name}", {})
    return alias
