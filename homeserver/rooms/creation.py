"""Creating rooms. Source: Client-Server API, `createRoom`."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import structlog

from federation.event import JsonObject
from federation.room_versions import ROOM_VERSIONS, RoomVersion
from homeserver.accounts.profiles import Profiles
from homeserver.config.rooms import RoomsConfig
from homeserver.errors import Forbidden, InvalidRoomState, MatrixError, UnsupportedRoomVersion
from homeserver.requester import Requester
from homeserver.rooms.aliases import Aliases, Publication
from homeserver.rooms.creation_request import CreationRequest
from homeserver.rooms.draft import Draft
from homeserver.rooms.initial_state import (
    create_content,
    initial_power_levels,
    preset_state,
    topic_content,
)
from homeserver.rooms.inviting import Inviting, check_user_id
from homeserver.rooms.room import MEMBER, Room
from homeserver.rooms.rooms import Rooms
from homeserver.rooms.third_party_invites import InvitedAddress, InvitingByAddress

log = structlog.get_logger()

OPAQUE_ID_BYTES = 18


@dataclass(frozen=True, slots=True)
class Creation:
    """Makes rooms: all of a room's first events are written at once, or none."""

    rooms: Rooms
    profiles: Profiles
    inviting: Inviting
    by_address: InvitingByAddress
    aliases: Aliases
    publication: Publication
    config: RoomsConfig
    server_name: str

    async def create(self, requester: Requester, request: CreationRequest) -> str:
        """`createRoom`: the room's id.

        Raises BadJson, InvalidParam, RoomInUse, InvalidRoomState, UnsupportedRoomVersion, Forbidden,
        MissingParam, ServerNotTrusted (both for `invite_3pid`), NotFound (of an invited user), InviteBlocked.
        """
        if self.config.creation == "admins" and not requester.is_admin:
            raise Forbidden("Only administrators of this server may create rooms")
        published = request.visibility == "public"
        if published and self.config.publication == "admins" and not requester.is_admin:
            raise Forbidden("Only administrators of this server may publish rooms")
        addresses = [InvitedAddress.of_body(invite) for invite in request.invite_3pid or ()]
        for address in addresses:
            self.by_address.check(address)
        version = supported_version(request.room_version or self.config.default_version)
        alias = None
        if request.room_alias_name is not None:
            alias = self.aliases.local_alias(request.room_alias_name)
        others = self._invited_elsewhere(request)
        drafts = await self._drafts(requester, request, version, alias)
        room = await self._write(requester, version, drafts, alias)
        if published:
            await self.publication.publish(room.nid)
        if others:
            await self.inviting.invite_all_elsewhere(
                room, requester.user_id, others, _invite_content(request)
            )
        for address in addresses:
            try:
                await self.by_address.invite(requester, room.room_id, address)
            except MatrixError as cause:  # as of users elsewhere: the room is there without them
                log.warning("invite by address not sent", room_id=room.room_id, cause=str(cause))
        return room.room_id

    def _invited_elsewhere(self, request: CreationRequest) -> list[str]:
        """Invited users of other servers. Raises InvalidParam, Forbidden."""
        invited = dict.fromkeys(request.invite or ())
        others = [user_id for user_id in invited if not self.inviting.is_local(user_id)]
        for user_id in others:
            check_user_id(user_id)
        if others and (request.creation_content or {}).get("m.federate") is False:
            raise Forbidden("A room that is not federated takes no users of other servers")
        return others

    async def _drafts(
        self, requester: Requester, request: CreationRequest, version: RoomVersion, alias: str | None
    ) -> list[Draft]:
        """The first events, in the order that the specification numbers."""
        creator = requester.user_id
        invitees = [user_id for user_id in dict.fromkeys(request.invite or ()) if user_id != creator]
        local = [user_id for user_id in invitees if self.inviting.is_local(user_id)]
        invites = await self.inviting.drafts(creator, local, _invite_content(request))
        profile = await self.profiles.of(creator)

        def state(event_type: str, content: JsonObject, state_key: str = "") -> Draft:
            return Draft(sender=creator, type=event_type, state_key=state_key, content=content)

        drafts = [
            state("m.room.create", create_content(request, version, creator, invitees)),
            state(MEMBER, {**profile.member_content(), "membership": "join"}, creator),
            state("m.room.power_levels", initial_power_levels(request, version, creator, invitees)),
        ]
        if alias is not None:
            drafts.append(state("m.room.canonical_alias", {"alias": alias}))
        given = {(event.type, event.state_key): event.content for event in request.initial_state or ()}
        if any(
            type == MEMBER and content.get("membership") == "invite" for (type, _), content in given.items()
        ):
            raise InvalidRoomState("Invites belong into 'invite', not into 'initial_state'")
        # "[initial_state] Takes precedence over events set by preset"
        drafts += [
            state(event_type, content)
            for event_type, content in preset_state(request.effective_preset).items()
            if (event_type, "") not in given
        ]
        # "but gets overridden by name and topic keys"
        named = {"m.room.name": request.name, "m.room.topic": request.topic}
        drafts += [
            state(event_type, content, state_key)
            for (event_type, state_key), content in given.items()
            if state_key or named.get(event_type) is None
        ]
        if request.name is not None:
            drafts.append(state("m.room.name", {"name": request.name}))
        if request.topic is not None:
            drafts.append(state("m.room.topic", topic_content(request.topic)))
        return drafts + invites

    async def _write(
        self, requester: Requester, version: RoomVersion, drafts: list[Draft], alias: str | None
    ) -> Room:
        nid = await self.rooms.next_nid()
        if alias is not None:
            await self.aliases.reserve(alias, nid, requester.user_id)
        try:
            return await self.rooms.create(version, new_room_id(self.server_name), drafts, nid=nid)
        except MatrixError as cause:
            if alias is not None:
                await self.aliases.release(alias, nid)
            if isinstance(cause, Forbidden):
                raise InvalidRoomState(f"The room cannot begin like this: {cause.message}") from cause
            raise


def _invite_content(request: CreationRequest) -> JsonObject:
    return {"is_direct": True} if request.is_direct else {}


def supported_version(version_id: str) -> RoomVersion:
    """The room version of this name. Raises UnsupportedRoomVersion."""
    version = ROOM_VERSIONS.get(version_id)
    if version is None:
        raise UnsupportedRoomVersion(f"This server does not support room version {version_id[:32]!r}")
    return version


def new_room_id(server_name: str) -> str:
    """A room id for the versions that do not make it from the create event."""
    return f"!{secrets.token_urlsafe(OPAQUE_ID_BYTES)}:{server_name}"
