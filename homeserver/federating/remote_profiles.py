"""Profiles of users here and elsewhere. Source: Server-Server API, `queryProfile`."""

from __future__ import annotations

from dataclasses import dataclass

from federation.canonical import JsonObject
from federation.errors import BadIdentifier
from federation.identifiers import split_user_id
from federation.transport.errors import RequestFailed
from homeserver.accounts.profiles import (
    AVATAR_URL,
    DISPLAYNAME,
    DISPLAYNAME_LENGTH_MAX,
    KEY_BYTES_MAX,
    PROFILE_BYTES_MAX,
    Profiles,
    is_avatar_url,
)
from homeserver.errors import InvalidParam, NotFound
from homeserver.federating.asking import Asking, Question, failed

PATH = "/_matrix/federation/v1/query/profile"
TIME_ZONE = "m.tz"
ENVELOPE_BYTES = 1024  # around a profile of the largest size


@dataclass(frozen=True, slots=True)
class AllProfiles:
    """Our own users' profiles from the database, others' from their servers."""

    server_name: str
    profiles: Profiles
    asking: Asking

    async def get(self, user_id: str, asker: str) -> JsonObject:
        """`getUserProfile`. Raises InvalidParam, NotFound, Forbidden, PeerFailed, LimitExceeded."""
        server = _server_of(user_id)
        if server == self.server_name:
            return await self.profiles.get(user_id)
        return await self._ask(server, user_id, asker)

    async def get_field(self, user_id: str, key: str, asker: str) -> JsonObject:
        """`getProfileField`. Raises as `get`."""
        server = _server_of(user_id)
        if server == self.server_name:
            return await self.profiles.get_field(user_id, key)
        if len(key.encode()) > KEY_BYTES_MAX:
            raise NotFound("The user's profile has no such field")
        # The whole profile is asked for: clients want several fields one after the other, of one answer.
        profile = await self._ask(server, user_id, asker)
        if key not in profile:
            raise NotFound("The user's profile has no such field")
        return {key: profile[key]}

    async def _ask(self, server: str, user_id: str, asker: str) -> JsonObject:
        question = Question(
            destination=server,
            path=PATH,
            query=(("user_id", user_id),),
            bytes_max=PROFILE_BYTES_MAX + ENVELOPE_BYTES,
        )
        try:
            return checked_profile(await self.asking.ask(question, asker))
        except RequestFailed as failure:
            raise failed(failure, "There is no such user") from failure


def checked_profile(answer: JsonObject) -> JsonObject:
    """A profile as another server gave it, without what our own users could not have."""
    profile = {key: value for key, value in answer.items() if key not in (DISPLAYNAME, AVATAR_URL, TIME_ZONE)}
    name, picture, zone = answer.get(DISPLAYNAME), answer.get(AVATAR_URL), answer.get(TIME_ZONE)
    if isinstance(name, str) and name and "\x00" not in name:
        profile[DISPLAYNAME] = name[:DISPLAYNAME_LENGTH_MAX]
    if isinstance(picture, str) and is_avatar_url(picture):
        profile[AVATAR_URL] = picture
    if isinstance(zone, str):
        profile[TIME_ZONE] = zone
    return profile


def _server_of(user_id: str) -> str:
    try:
        return split_user_id(user_id)[1]
    except BadIdentifier as cause:
        raise InvalidParam("This is not a valid user id: expected @name:server") from cause
