"""What rooms need of other servers: `homeserver.federating` does it, and `homeserver.app` puts it in.

Server-Server API: "Joining Rooms", "Knocking upon a room", "Inviting to a room", "Leaving Rooms";
Client-Server API, "Third-party invites".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from federation.event import JsonObject
from homeserver.errors import Forbidden, NotFound, ServerNotTrusted
from homeserver.rooms.draft import Draft
from homeserver.rooms.event import Event
from homeserver.rooms.room import Room


class JoiningElsewhere(Protocol):
    """Into rooms that this node is not in. Failures are `MatrixError`s, fit for the client."""

    async def find_alias(self, alias: str) -> tuple[str, Sequence[str]]:
        """The room that another server's alias names, and servers to enter it by. Raises NotFound."""
        ...

    async def join(
        self, user_id: str, room_id: str, servers: Sequence[str], content: JsonObject, *, authorised: bool
    ) -> Event | None:
        """Join through servers that are in the room, those named first.

        `authorised` asks for one that lets the user into a restricted room that this node follows; None if
        there is none to ask. Without it, None if this node follows the room by now, because somebody else
        here has just joined: then the user can join here.
        """
        ...

    async def exchange(self, user_id: str, room_id: str, sender: str, signed: JsonObject) -> None:
        """Have the server of `sender`, who invited an address, invite its owner: the user."""
        ...

    async def knock(
        self, user_id: str, room_id: str, servers: Sequence[str], content: JsonObject
    ) -> Event | None:
        """As `join`, for a knock."""
        ...


class LeavingElsewhere(Protocol):
    """Away from rooms that this node is not in."""

    async def leave(self, user_id: str, room_id: str, content: JsonObject) -> bool:
        """Turn down an invite, or take back a knock, of a room that this node does not follow.

        False if it has entered the room meanwhile: then it is left like any other. Raises NotFound if there
        is neither.
        """
        ...


class InvitingElsewhere(Protocol):
    """Users of other servers, into rooms that this node is in."""

    async def invite(self, room: Room, draft: Draft) -> Event:
        """Invite a user of another server, which has to agree. Failures are as above."""
        ...


@dataclass(frozen=True, slots=True)
class IdentityAccess:
    """An identity server, and the token by which it knows the user who asks."""

    server: str
    token: str


@dataclass(frozen=True, slots=True)
class StoredInvite:
    """An invite of an address that an identity server keeps: what `m.room.third_party_invite` holds of it.

    ``public_keys`` have `public_key` and `key_validity_url`.
    """

    token: str
    display_name: str
    public_keys: Sequence[JsonObject]


class IdentityServers(Protocol):
    """They know whose an e-mail address or phone number is. Failures are as above."""

    def check(self, server: str) -> None:
        """Raise InvalidParam for what is no server's name, ServerNotTrusted for one that is not asked."""
        ...

    async def find(self, access: IdentityAccess, medium: str, address: str) -> str | None:
        """The user to whom an address belongs, if any."""
        ...

    async def store(self, access: IdentityAccess, invite: JsonObject) -> StoredInvite:
        """Have an invite kept until somebody proves to own the address: v2_store_invite.yaml."""
        ...

    async def is_valid(self, url: str, public_key: str) -> bool:
        """Whether a key is still valid, by the URL that stands beside it; False if nobody says."""
        ...


class NowhereElse:
    """All of it, for a node on its own."""

    async def find_alias(self, alias: str) -> tuple[str, Sequence[str]]:
        raise NotFound("There is no room of this name")

    async def join(
        self, user_id: str, room_id: str, servers: Sequence[str], content: JsonObject, *, authorised: bool
    ) -> Event | None:
        if authorised:
            return None
        raise NotFound("This server does not know the room")

    async def exchange(self, user_id: str, room_id: str, sender: str, signed: JsonObject) -> None:
        raise Forbidden("Only the inviting user's server can turn this third-party invite into an invite")

    async def knock(
        self, user_id: str, room_id: str, servers: Sequence[str], content: JsonObject
    ) -> Event | None:
        raise NotFound("This server does not know the room")

    async def leave(self, user_id: str, room_id: str, content: JsonObject) -> None:
        raise NotFound("This server does not know the room")

    async def invite(self, room: Room, draft: Draft) -> Event:
        raise Forbidden(f"{draft.state_key} is on another server, and this one talks to no others")

    def check(self, server: str) -> None:
        raise ServerNotTrusted("This server asks no identity server: invite people by their user id")

    async def find(self, access: IdentityAccess, medium: str, address: str) -> str | None:
        return None

    async def store(self, access: IdentityAccess, invite: JsonObject) -> StoredInvite:
        raise ServerNotTrusted("This server asks no identity server: invite people by their user id")

    async def is_valid(self, url: str, public_key: str) -> bool:
        return False
