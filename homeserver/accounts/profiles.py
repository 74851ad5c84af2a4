"""Profiles of this node's users. Source: Client-Server API, "Profiles".

A change of name or picture has to reach the user's rooms too: that is marked in the same transaction
and done by `homeserver.rooms.profile_propagation`, so that neither a crash loses it nor a user of
2,000 rooms has to wait for all of them.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import orjson

from federation.event import JsonObject
from homeserver.errors import (
    BadJson,
    GuestAccessForbidden,
    InvalidParam,
    KeyTooLarge,
    MissingParam,
    NotFound,
    ProfileTooLarge,
)
from homeserver.requester import Requester
from homeserver.storage import profiles as sql
from homeserver.storage.connection import Connection, Pool
from homeserver.storage.profiles import ProfileRow
from homeserver.storage.user_directory import words_of

DISPLAYNAME = "displayname"
AVATAR_URL = "avatar_url"
KEY_BYTES_MAX = 255
PROFILE_BYTES_MAX = 64 * 1024  # "the total profile MUST be under 64 KiB"
DISPLAYNAME_LENGTH_MAX = 256
AVATAR_URL_LENGTH_MAX = 1000

# Common Namespaced Identifier Grammar, with a namespace as the operation's pattern wants it; a
# hyphen is allowed by the grammar, though not by the pattern.
_KEY = re.compile(r"[a-z][a-z0-9_-]*(\.[a-z0-9_-]+)+")
_MXC = re.compile(r"mxc://[^/\s]+/[A-Za-z0-9_-]+")

EMPTY = ProfileRow(displayname=None, avatar_url=None, fields=b"{}")


@dataclass(frozen=True, slots=True)
class Profile:
    """Name and picture, as member events carry them."""

    displayname: str | None = None
    avatar_url: str | None = None

    def member_content(self) -> JsonObject:
        """The keys for the content of an ``m.room.member`` event."""
        content: JsonObject = {}
        if self.displayname is not None:
            content[DISPLAYNAME] = self.displayname
        if self.avatar_url is not None:
            content[AVATAR_URL] = self.avatar_url
        return content


Subscriber = Callable[[str, Profile], Awaitable[None]]


class Profiles:
    """Reads and edits profiles, and tells who subscribes of new names and pictures."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._subscribers: list[Subscriber] = []

    def subscribe(self, subscriber: Subscriber) -> None:
        """Have ``subscriber`` called when a new name or picture is durable; the request waits for it."""
        self._subscribers.append(subscriber)

    async def of(self, user_id: str) -> Profile:
        """A user's name and picture; empty for users of other servers and unknown ones."""
        return await self.find(user_id) or Profile()

    async def find(self, user_id: str) -> Profile | None:
        """As `of`, but None where this node has no such user."""
        row = await sql.fetch_local_profile(self._pool, user_id)
        return Profile(row.displayname, row.avatar_url) if row else None

    async def get(self, user_id: str) -> JsonObject:
        """`getUserProfile`: all fields. Raises NotFound."""
        row = await sql.fetch_local_profile(self._pool, user_id)
        if row is None:
            raise NotFound("There is no such user here")
        return _as_json(row)

    async def get_field(self, user_id: str, key: str) -> JsonObject:
        """`getProfileField`: an object with the one field. Raises NotFound."""
        profile = await self.get(user_id)
        if key not in profile:
            raise NotFound("The user's profile has no such field")
        return {key: profile[key]}

    async def put_field(self, requester: Requester, key: str, body: JsonObject) -> None:
        """`setProfileField`. An empty name or picture URL deletes it, as clients of old expect.

        Raises BadJson, MissingParam, InvalidParam, KeyTooLarge, ProfileTooLarge, GuestAccessForbidden.
        """
        _check_key(requester, key)
        if key not in body:
            raise MissingParam(f"The body must have the property {key!r}, with the field's value")
        value = body[key]
        if key == DISPLAYNAME:
            _check_displayname(value)
            await self._edit(requester, lambda row: replace(row, displayname=value or None))
        elif key == AVATAR_URL:
            _check_avatar_url(value)
            await self._edit(requester, lambda row: replace(row, avatar_url=value or None))
        else:
            if key == "m.tz" and not isinstance(value, str):
                raise BadJson("m.tz must be a string, the name of a time zone")
            await self._edit(requester, lambda row: _with_field(row, key, value))

    async def delete_field(self, requester: Requester, key: str) -> None:
        """`deleteProfileField`; nothing happens if there is none.

        Raises InvalidParam, KeyTooLarge, GuestAccessForbidden.
        """
        _check_key(requester, key)
        if key == DISPLAYNAME:
            await self._edit(requester, lambda row: replace(row, displayname=None))
        elif key == AVATAR_URL:
            await self._edit(requester, lambda row: replace(row, avatar_url=None))
        else:
            await self._edit(requester, lambda row: _without_field(row, key))

    async def clear(self, connection: Connection, user_nid: int) -> None:
        """Delete the whole profile, within the transaction that deactivates its user."""
        await sql.lock_profile(connection, user_nid)
        await sql.update_profile(connection, user_nid, EMPTY, concerns_rooms=False)
        await sql.replace_words(connection, user_nid, ())

    async def _edit(self, requester: Requester, change: Callable[[ProfileRow], ProfileRow]) -> None:
        async with self._pool.acquire() as connection, connection.transaction():
            before = await sql.lock_profile(connection, requester.user_nid)
            after = change(before)
            if after == before:
                return
            if len(orjson.dumps(_as_json(after))) >= PROFILE_BYTES_MAX:
                raise ProfileTooLarge(f"A profile must have less than {PROFILE_BYTES_MAX} bytes altogether")
            concerns_rooms = (after.displayname, after.avatar_url) != (before.displayname, before.avatar_url)
            await sql.update_profile(connection, requester.user_nid, after, concerns_rooms=concerns_rooms)
            if after.displayname != before.displayname:
                words = words_of(after.displayname or "")
                await sql.replace_words(connection, requester.user_nid, words)
        if concerns_rooms:
            for subscriber in self._subscribers:
                await subscriber(requester.user_id, Profile(after.displayname, after.avatar_url))


def _as_json(row: ProfileRow) -> JsonObject:
    fields: JsonObject = orjson.loads(row.fields)
    return {**Profile(row.displayname, row.avatar_url).member_content(), **fields}


def _with_field(row: ProfileRow, key: str, value: Any) -> ProfileRow:
    return replace(row, fields=orjson.dumps({**orjson.loads(row.fields), key: value}))


def _without_field(row: ProfileRow, key: str) -> ProfileRow:
    fields = orjson.loads(row.fields)
    if key not in fields:
        return row
    del fields[key]
    return replace(row, fields=orjson.dumps(fields))


def _check_key(requester: Requester, key: str) -> None:
    if len(key.encode()) > KEY_BYTES_MAX:
        raise KeyTooLarge(f"The name of a profile field may have {KEY_BYTES_MAX} bytes at most")
    if key not in (DISPLAYNAME, AVATAR_URL) and not _KEY.fullmatch(key):
        raise InvalidParam(
            "Profile fields are displayname, avatar_url, m.tz, or have a name like com.example.field"
        )
    if requester.is_guest and key != DISPLAYNAME:  # "Guest users may only modify their display name"
        raise GuestAccessForbidden("Guests may only change their display name")


def _check_displayname(value: Any) -> None:
    if not isinstance(value, str):
        raise BadJson("displayname must be a string")
    if len(value) > DISPLAYNAME_LENGTH_MAX or "\x00" in value:
        raise InvalidParam(f"A display name may have {DISPLAYNAME_LENGTH_MAX} characters at most, and no NUL")


def _check_avatar_url(value: Any) -> None:
    if not isinstance(value, str):
        raise BadJson("avatar_url must be a string")
    if value and not is_avatar_url(value):
        raise InvalidParam("avatar_url must be an mxc:// URI of an uploaded file")


def is_avatar_url(text: str) -> bool:
    """Whether a picture can be named like this."""
    return len(text) <= AVATAR_URL_LENGTH_MAX and _MXC.fullmatch(text) is not None
