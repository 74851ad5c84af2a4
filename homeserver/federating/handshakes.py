"""The handshake by which a user enters or leaves a room that this node is not in: the asking side.

Another server makes a template, which says where in the room's graph the event belongs; what it says is ours.
Source: Server-Server API, "Joining Rooms", "Knocking upon a room", "Leaving Rooms".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from federation.building import build_event
from federation.canonical import JsonObject
from federation.errors import FederationError
from federation.event import PDU
from federation.event_format import check_format
from federation.keys import SigningKey
from federation.room_versions import ROOM_VERSIONS, RoomVersion
from federation.transport.client import FederationClient, path_of
from homeserver.clock import Clock, now_ms
from homeserver.rooms.restricted_rooms import AUTHORISED_VIA
from homeserver.rooms.room import MEMBER

MAKE_TIMEOUT_S = 20.0
MAKE = {"join": "make_join", "knock": "make_knock", "leave": "make_leave"}


class BadHandshake(FederationError):
    """Another server's part of a handshake cannot be right. The message says why, without content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """Where a member event belongs, as a server in the room sees it."""

    server: str
    version: RoomVersion
    prev_events: Sequence[str]
    auth_events: Sequence[str]
    reference_hashes: Mapping[str, str]
    """Of room versions 1 and 2: what references carry."""
    depth: int
    authorised_via: str | None = None


@dataclass(frozen=True, slots=True)
class Handshakes:
    """Asks for templates, and makes events out of them."""

    client: FederationClient
    server_name: str
    key: SigningKey
    clock: Clock = now_ms

    async def make(self, server: str, membership: str, room_id: str, user_id: str) -> Template:
        """`makeJoin`, `makeKnock`, `makeLeave`. Raises RequestFailed, BadHandshake."""
        answer = await self.client.request(
            server,
            "GET",
            path_of(f"/_matrix/federation/v1/{MAKE[membership]}/{{}}/{{}}", room_id, user_id),
            {"ver": list(ROOM_VERSIONS)} if membership != "leave" else None,
            despite_backoff=True,  # a user waits who may know better
            timeout_s=MAKE_TIMEOUT_S,
        )
        # "If not provided, the room version is assumed to be either "1" or "2"."
        named, event = answer.get("room_version", "1"), answer.get("event")
        version = ROOM_VERSIONS.get(named) if isinstance(named, str) else None
        if version is None or not isinstance(event, dict):
            raise BadHandshake("The template is no event of a room version that this server knows")
        _check_template(event, membership, room_id, user_id)
        return _read_template(server, version, event)

    def build(self, template: Template, room_id: str, user_id: str, content: JsonObject) -> tuple[PDU, bytes]:
        """The user's member event at the place of a template. Raises BadHandshake."""
        if template.authorised_via is not None and content.get("membership") == "join":
            content = {**content, AUTHORISED_VIA: template.authorised_via}
        try:
            pdu, encoded = build_event(
                version=template.version,
                room_id=room_id,
                type=MEMBER,
                state_key=user_id,
                sender=user_id,
                content=content,
                prev_events=template.prev_events,
                auth_events=template.auth_events,
                depth=template.depth,
                origin_server_ts=self.clock(),
                server_name=self.server_name,
                key=self.key,
                reference_hashes=template.reference_hashes,
                with_origin=True,
            )
            check_format(pdu.json, template.version)
        except FederationError as cause:
            raise BadHandshake(f"The template makes no valid event: {cause}") from cause
        return pdu, encoded


def _check_template(event: JsonObject, membership: str, room_id: str, user_id: str) -> None:
    """Raise BadHandshake unless a template is for what was asked.

    "the sending server MUST verify that" – joins-v1.yaml, knocks.yaml, leaving-v1.yaml.
    """
    content = event.get("content")
    if (
        event.get("room_id") != room_id
        or event.get("sender") != user_id
        or event.get("state_key") != user_id
        or event.get("type") != MEMBER
        or not isinstance(content, dict)
        or content.get("membership") != membership
    ):
        raise BadHandshake("The template is for another event than the one asked for")


def _read_template(server: str, version: RoomVersion, event: JsonObject) -> Template:
    hashes: dict[str, str] = {}
    prev_events = _references(event.get("prev_events"), version, hashes)
    auth_events = _references(event.get("auth_events"), version, hashes)
    depth = event.get("depth")
    if type(depth) is not int:
        raise BadHandshake("The template has no depth")
    authorised_via = event["content"].get(AUTHORISED_VIA)
    return Template(
        server=server,
        version=version,
        prev_events=prev_events,
        auth_events=auth_events,
        reference_hashes=hashes,
        depth=depth,
        authorised_via=authorised_via if isinstance(authorised_via, str) else None,
    )


def _references(references: object, version: RoomVersion, hashes: dict[str, str]) -> list[str]:
    """Event IDs; ``hashes`` gets what room versions 1 and 2 have with them."""
    if not isinstance(references, list):
        raise BadHandshake("The template lacks references")
    ids: list[str] = []
    for reference in references:
        if not version.event_id_is_hash:
            try:
                reference, found = reference
                hashes[reference] = found["sha256"]
            except (ValueError, TypeError, KeyError) as cause:
                raise BadHandshake("The template has malformed references") from cause
        if not isinstance(reference, str):
            raise BadHandshake("The template has malformed references")
        ids.append(reference)
    return ids
