"""What a client asks for when it creates a room. Source: create_room.yaml."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from federation.event import JsonObject
from homeserver.errors import BadJson

INVITES_MAX = 200  # at once: each is an event
INVITES_3PID_MAX = 20  # for each an identity server is asked
INITIAL_STATE_MAX = 200

Preset = Literal["private_chat", "public_chat", "trusted_private_chat"]


class InitialStateEvent(Struct, frozen=True):
    """One entry of `initial_state`."""

    type: Annotated[str, Meta(min_length=1)]
    content: dict[str, Any]
    state_key: str = ""


class CreationRequest(Struct, frozen=True, kw_only=True):
    """The body of `createRoom`; null stands for what is absent."""

    visibility: Literal["public", "private"] | None = None
    room_alias_name: str | None = None
    name: str | None = None
    topic: str | None = None
    invite: Annotated[list[str], Meta(max_length=INVITES_MAX)] | None = None
    invite_3pid: Annotated[list[dict[str, Any]], Meta(max_length=INVITES_3PID_MAX)] | None = None
    room_version: str | None = None
    creation_content: dict[str, Any] | None = None
    initial_state: Annotated[list[InitialStateEvent], Meta(max_length=INITIAL_STATE_MAX)] | None = None
    preset: Preset | None = None
    is_direct: bool | None = None
    power_level_content_override: dict[str, Any] | None = None

    @classmethod
    def of_body(cls, body: JsonObject) -> CreationRequest:
        """Read a request's body. Raises BadJson, saying where it is wrong."""
        try:
            return msgspec.convert(body, cls)
        except msgspec.ValidationError as cause:
            raise BadJson(f"This is no description of a room: {cause}") from cause

    @property
    def effective_preset(self) -> Preset:
        """The preset that is asked for, or that follows from the visibility."""
        return self.preset or ("public_chat" if self.visibility == "public" else "private_chat")
