"""Invites of somebody known by an e-mail address or a phone number: made, and turned into invites of a user.

Alice invites an address. Her server asks an identity server whose it is. If it knows, she has invited that
user. Else it keeps the invite, and the room holds an `m.room.third_party_invite` with its keys. Whoever comes
to own the address has a proof of that, signed by the identity server, by which Alice's server invites them.
Source: Client-Server API, "Third-party invites"; Server-Server API, "Third-party invites".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from federation.event import JsonObject
from federation.third_party_invites import verify_token_signature
from homeserver.accounts.profiles import Profiles
from homeserver.errors import BadJson, Forbidden, InvalidParam, MissingParam
from homeserver.requester import Requester
from homeserver.rooms.draft import Draft
from homeserver.rooms.elsewhere import IdentityAccess, IdentityServers
from homeserver.rooms.inviting import Inviting
from homeserver.rooms.room import MEMBER, Room
from homeserver.rooms.rooms import Rooms

THIRD_PARTY_INVITE = "m.room.third_party_invite"
MEDIUMS = ("email", "msisdn")  # appendices, "3PID Types"
ADDRESS_BYTES_MAX = 255
ACCESS_TOKEN_MAX = 1024
KEYS_ASKED_MAX = 4  # of one invite


@dataclass(frozen=True, slots=True)
class InvitedAddress:
    """Who is invited, and which identity server is to be asked."""

    access: IdentityAccess
    medium: str
    address: str

    @classmethod
    def of_body(cls, body: JsonObject) -> InvitedAddress:
        """Read definitions/invite_3pid.yaml. Raises MissingParam, BadJson, InvalidParam."""
        fields: list[str] = []
        for name in ("id_server", "id_access_token", "medium", "address"):
            if name not in body:
                raise MissingParam(f"{name!r} is required to invite somebody by an address")
            if not isinstance(body[name], str):
                raise BadJson(f"{name!r} must be a string")
            fields.append(body[name])
        server, token, medium, address = fields
        if not 0 < len(token) <= ACCESS_TOKEN_MAX or not all("!" <= letter <= "~" for letter in token):
            raise InvalidParam("'id_access_token' is no token of an identity server")
        if medium not in MEDIUMS:
            raise InvalidParam("'medium' must be 'email' or 'msisdn'")
        try:
            size = len(address.encode())
        except UnicodeEncodeError as cause:
            raise InvalidParam("'address' is no address") from cause
        if not 0 < size <= ADDRESS_BYTES_MAX or not address.isprintable():
            raise InvalidParam("'address' is no address")
        return cls(IdentityAccess(server, token), medium, _canonical(medium, address))


@dataclass(frozen=True, slots=True)
class InvitingByAddress:
    """Invites whoever has an address."""

    rooms: Rooms
    profiles: Profiles
    inviting: Inviting
    identity_servers: IdentityServers

    def check(self, invited: InvitedAddress) -> None:
        """Raise InvalidParam, ServerNotTrusted where the identity server cannot be asked."""
        self.identity_servers.check(invited.access.server)

    async def invite(self, requester: Requester, room_id: str, invited: InvitedAddress) -> None:
        """`inviteBy3PID`. Raises Forbidden, ServerNotTrusted, PeerFailed, and what inviting a user does."""
        room = await self.rooms.get_joined(room_id, requester.user_id)
        self.check(invited)
        self.inviting.check_power(room, requester.user_id)
        user_id = await self.identity_servers.find(invited.access, invited.medium, invited.address)
        if user_id is not None:
            await self.inviting.invite(requester, room_id, user_id)
            return
        stored = await self.identity_servers.store(
            invited.access, await self._described(requester, room, invited)
        )
        content: JsonObject = {
            "display_name": stored.display_name,
            **stored.public_keys[0],  # "for backwards compatibility"
            "public_keys": list(stored.public_keys),
        }
        draft = Draft(
            sender=requester.user_id, type=THIRD_PARTY_INVITE, state_key=stored.token, content=content
        )
        await self.rooms.send(room_id, draft)

    async def _described(self, requester: Requester, room: Room, invited: InvitedAddress) -> JsonObject:
        """What the identity server is told, and tells in its message: v2_store_invite.yaml."""
        profile = await self.profiles.of(requester.user_id)
        member = profile.member_content()
        known = {
            "room_name": room.text_of("m.room.name", "name"),
            "room_alias": room.text_of("m.room.canonical_alias", "alias"),
            "room_avatar_url": room.text_of("m.room.avatar", "url"),
            "room_type": room.text_of("m.room.create", "type"),
            "room_join_rules": room.join_rule,
            "sender_display_name": member.get("displayname"),
            "sender_avatar_url": member.get("avatar_url"),
        }
        return {
            "medium": invited.medium,
            "address": invited.address,
            "room_id": room.room_id,
            "sender": requester.user_id,
            **{name: value for name, value in known.items() if value},
        }


@dataclass(frozen=True, slots=True)
class AddressProofs:
    """Turns proofs of owning an address into invites of users."""

    identity_servers: IdentityServers

    async def invite(self, room: Room, user_id: str, sender: object, signed: JsonObject) -> Draft:
        """The invite that a proof stands for: `sender` is who invited the address.

        `signed` has `mxid`, `token` and `signatures`, which are "of the entire signed object": it is kept as
        it is. The room's rules check the signature again, everywhere; whether its key is still valid only
        the server does that makes the invite: of who has invited the address, or of who owns it, if that is
        in the room. Raises BadJson, Forbidden.
        """
        mxid, token = signed.get("mxid"), signed.get("token")
        if not isinstance(sender, str) or not isinstance(token, str) or not isinstance(mxid, str):
            raise BadJson("A third-party invite must have sender, mxid and token")
        if not isinstance(signed.get("signatures"), dict):
            raise BadJson("A third-party invite must have signatures")
        invite = room.state_event(THIRD_PARTY_INVITE, token)
        if invite is None or mxid != user_id or invite.sender != sender:
            raise Forbidden("This room has no such third-party invite for you")
        display_name = invite.content.get("display_name")
        if not await self._is_signed(invite.content, signed):
            raise Forbidden("No key that is valid has signed this proof of owning the address")
        content: JsonObject = {
            "membership": "invite",
            "third_party_invite": {
                "display_name": display_name if isinstance(display_name, str) else "",
                "signed": signed,
            },
        }
        return Draft(sender=sender, type=MEMBER, state_key=user_id, content=content)

    async def _is_signed(self, invite: JsonObject, signed: JsonObject) -> bool:
        """Whether a key of the invite has signed, which is still valid.

        "H1 MUST verify the request from H3 to ensure the `signed` property is correct as well as the
        `key_validity_url` as still being valid." Without a URL, "the key must be considered valid
        indefinitely".
        """
        asked = 0
        for public_key, url in sorted(_keys_of(invite), key=lambda key: key[1] is not None):
            if not verify_token_signature(signed, [public_key]):
                continue
            if url is None:
                return True
            asked += 1
            if asked > KEYS_ASKED_MAX:
                return False
            if await self.identity_servers.is_valid(url, public_key):
                return True
        return False


def _keys_of(invite: JsonObject) -> Iterator[tuple[str, str | None]]:
    """The keys of an `m.room.third_party_invite`, each once by its URL, and the URLs."""
    entries = invite.get("public_keys")
    found = [invite, *(entries if isinstance(entries, list) else ())]
    seen: set[tuple[str, str | None]] = set()
    for entry in found:
        if not isinstance(entry, dict) or not isinstance(entry.get("public_key"), str):
            continue
        url = entry.get("key_validity_url")
        key = entry["public_key"], url if isinstance(url, str) else None
        if key not in seen:
            seen.add(key)
            yield key


def _canonical(medium: str, address: str) -> str:
    """E-mail addresses by "the unicode case-folding algorithm". Source: appendices, "3PID Types"."""
    return address.casefold() if medium == "email" else address
