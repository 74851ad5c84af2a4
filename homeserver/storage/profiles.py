"""Profiles, and the words by which the user directory finds them.

Source: Client-Server API, "Profiles".
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import orjson

from federation.canonical import JsonObject
from homeserver.storage.connection import Connection, Pool
from homeserver.storage.user_directory import words_of

SELECT_LOCAL = """
SELECT profiles.displayname, profiles.avatar_url, profiles.fields
FROM users JOIN accounts ON accounts.user_nid = users.nid
LEFT JOIN profiles ON profiles.user_nid = users.nid
WHERE users.user_id = $1
"""
INSERT_EMPTY = "INSERT INTO profiles (user_nid) VALUES ($1) ON CONFLICT DO NOTHING"
SELECT_FOR_UPDATE = """
SELECT displayname, avatar_url, fields FROM profiles WHERE user_nid = $1 FOR UPDATE
"""
UPDATE = """
UPDATE profiles SET displayname = $2, avatar_url = $3, fields = $4, changes = changes + $5 WHERE user_nid = $1
"""
DELETE_WORDS = "DELETE FROM profile_words WHERE user_nid = $1"
INSERT_WORDS = "INSERT INTO profile_words (user_nid, word) SELECT $1, unnest($2::text[])"
SELECT_TO_PROPAGATE = """
SELECT profiles.user_nid, users.user_id, profiles.changes, profiles.displayname, profiles.avatar_url
FROM profiles JOIN users ON users.nid = profiles.user_nid
WHERE profiles.propagated <> profiles.changes AND profiles.user_nid > $1 ORDER BY profiles.user_nid LIMIT $2
"""
MARK_PROPAGATED = "UPDATE profiles SET propagated = $2 WHERE user_nid = $1"


# Users of other servers have no account, and nothing to be propagated.
UPSERT_OTHERS = """
INSERT INTO profiles AS known (user_nid, displayname, avatar_url)
SELECT users.nid, given.displayname, given.avatar_url
FROM unnest($1::text[], $2::text[], $3::text[]) AS given (user_id, displayname, avatar_url)
JOIN users ON users.user_id = given.user_id
WHERE NOT EXISTS (SELECT 1 FROM accounts WHERE accounts.user_nid = users.nid)
ORDER BY users.nid
ON CONFLICT (user_nid) DO UPDATE SET displayname = excluded.displayname, avatar_url = excluded.avatar_url
WHERE (known.displayname, known.avatar_url) IS DISTINCT FROM (excluded.displayname, excluded.avatar_url)
RETURNING user_nid, displayname
"""
DELETE_WORDS_OF_MANY = "DELETE FROM profile_words WHERE user_nid = ANY($1::integer[])"
INSERT_WORDS_OF_MANY = """
INSERT INTO profile_words (user_nid, word) SELECT * FROM unnest($1::integer[], $2::text[])
"""
SELECT_OTHERS_WITHOUT_PROFILE = """
SELECT users.nid, users.user_id, (
    SELECT events.json FROM memberships JOIN events ON events.nid = memberships.event_nid
    WHERE memberships.user_nid = users.nid AND memberships.membership = 'join' LIMIT 1) AS json
FROM users
LEFT JOIN accounts ON accounts.user_nid = users.nid
LEFT JOIN profiles ON profiles.user_nid = users.nid
WHERE users.nid > $1 AND accounts.user_nid IS NULL AND profiles.user_nid IS NULL
    AND EXISTS (
        SELECT 1 FROM memberships WHERE memberships.user_nid = users.nid AND memberships.membership = 'join')
ORDER BY users.nid LIMIT $2
"""


@dataclass(frozen=True, slots=True)
class OtherProfile:
    """Name and picture of a user of another server."""

    user_id: str
    displayname: str | None
    avatar_url: str | None


@dataclass(frozen=True, slots=True)
class OtherMember:
    """A member of some room whose profile is not known; ``content`` is of their member event."""

    user_nid: int
    user_id: str
    content: JsonObject


@dataclass(frozen=True, slots=True)
class ProfileRow:
    """A profile as stored; ``fields`` is a JSON object of all that is neither name nor picture."""

    displayname: str | None
    avatar_url: str | None
    fields: bytes


@dataclass(frozen=True, slots=True)
class ToPropagate:
    """A profile whose rooms are to be told; ``changes`` goes back to `mark_propagated`."""

    user_nid: int
    user_id: str
    changes: int
    displayname: str | None
    avatar_url: str | None


async def fetch_local_profile(source: Connection | Pool, user_id: str) -> ProfileRow | None:
    """The profile of a user of this node, or None where there is no such user."""
    row = await source.fetchrow(SELECT_LOCAL, user_id)
    return ProfileRow(row["displayname"], row["avatar_url"], row["fields"] or b"{}") if row else None


async def lock_profile(connection: Connection, user_nid: int) -> ProfileRow:
    """The profile, locked until the transaction ends."""
    await connection.execute(INSERT_EMPTY, user_nid)
    row = await connection.fetchrow(SELECT_FOR_UPDATE, user_nid)
    if row is None:
        raise LookupError("a profile row vanished between its insertion and its lock")
    return ProfileRow(row["displayname"], row["avatar_url"], row["fields"])


async def update_profile(
    connection: Connection, user_nid: int, profile: ProfileRow, *, concerns_rooms: bool
) -> None:
    """Write a locked profile; ``concerns_rooms`` if its user's rooms have to be told of it."""
    await connection.execute(
        UPDATE, user_nid, profile.displayname, profile.avatar_url, profile.fields, int(concerns_rooms)
    )


async def replace_words(connection: Connection, user_nid: int, words: Collection[str]) -> None:
    """What the user directory finds a user by, besides the user id; each word once."""
    await connection.execute(DELETE_WORDS, user_nid)
    if words:
        await connection.execute(INSERT_WORDS, user_nid, list(words))


async def fetch_to_propagate(source: Connection | Pool, after: int, limit: int) -> list[ToPropagate]:
    """Profiles whose rooms have not been told of the newest change, of users numbered above ``after``."""
    return [ToPropagate(*row) for row in await source.fetch(SELECT_TO_PROPAGATE, after, limit)]


async def mark_propagated(source: Connection | Pool, user_nid: int, changes: int) -> None:
    """Note that all rooms know the profile as it was after so many changes."""
    await source.execute(MARK_PROPAGATED, user_nid, changes)


async def store_others(connection: Connection, profiles: Sequence[OtherProfile]) -> None:
    """Write profiles of users of other servers who are known here, within a transaction."""
    changed = await connection.fetch(
        UPSERT_OTHERS,
        [profile.user_id for profile in profiles],
        [profile.displayname for profile in profiles],
        [profile.avatar_url for profile in profiles],
    )
    if not changed:
        return
    words = [(row["user_nid"], word) for row in changed for word in words_of(row["displayname"] or "")]
    await connection.execute(DELETE_WORDS_OF_MANY, [row["user_nid"] for row in changed])
    await connection.execute(
        INSERT_WORDS_OF_MANY, [user_nid for user_nid, _ in words], [word for _, word in words]
    )


async def fetch_others_without_profile(
    source: Connection | Pool, after: int, limit: int
) -> list[OtherMember]:
    """Members of rooms, of other servers and numbered above ``after``, of whom there is no profile."""
    rows = await source.fetch(SELECT_OTHERS_WITHOUT_PROFILE, after, limit)
    return [OtherMember(row["nid"], row["user_id"], orjson.loads(row["json"])["content"]) for row in rows]
