"""Finding users by the beginning of a name or user id, and what rooms two users share.

Every query stops after a bounded number of index entries, however many users there are.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from homeserver.storage.connection import Connection, Pool

WORDS_MAX = 16  # of one display name
WORD_LENGTH_MAX = 64
LAST_CHARACTER = "\U0010ffff"

_WORD = re.compile(r"\w+")

WORD_MATCHES_MAX = 10_000  # of the longest word, that are tried with a search's other words

# $1 user, $2 and $3 the longest word's bounds, $4 and $5 the user id's, $6 other words as LIKE patterns,
# $7 candidates at most, $8 results at most, $9 whether all local users are shown, $10 WORD_MATCHES_MAX.
SEARCH = """
WITH candidates AS (
    (SELECT user_nid FROM (
        SELECT user_nid FROM profile_words WHERE word >= $2 AND word < $3 ORDER BY word LIMIT $10
    ) AS matches
    WHERE NOT EXISTS (
        SELECT 1 FROM unnest($6::text[]) AS pattern WHERE NOT EXISTS (
            SELECT 1 FROM profile_words WHERE user_nid = matches.user_nid AND word LIKE pattern))
    LIMIT $7)
    UNION
    (SELECT nid FROM users WHERE lower(user_id) COLLATE "C" >= $4 AND lower(user_id) COLLATE "C" < $5
     ORDER BY lower(user_id) COLLATE "C" LIMIT $7)
)
SELECT users.user_id, profiles.displayname, profiles.avatar_url
FROM candidates
JOIN users ON users.nid = candidates.user_nid
LEFT JOIN accounts ON accounts.user_nid = users.nid
LEFT JOIN profiles ON profiles.user_nid = users.nid
WHERE accounts.is_deactivated IS NOT TRUE
    AND (
        $9 AND accounts.user_nid IS NOT NULL
        OR EXISTS (
            SELECT 1 FROM memberships AS mine JOIN memberships AS theirs USING (room_nid)
            WHERE mine.user_nid = $1 AND mine.membership = 'join' AND users.nid <> $1
                AND theirs.user_nid = users.nid AND theirs.membership = 'join')
        OR EXISTS (
            SELECT 1 FROM memberships JOIN rooms ON rooms.nid = memberships.room_nid
            WHERE memberships.user_nid = users.nid AND memberships.membership = 'join'
                AND rooms.summary -> 'left' IS NULL  -- by all users of this node: who is in it is not known
                AND (rooms.summary ->> 'join_rule' = 'public'
                    OR rooms.summary ->> 'world_readable' = 'true')))
ORDER BY lower(users.user_id) COLLATE "C" = $4 DESC, profiles.displayname IS NULL, users.user_id COLLATE "C"
LIMIT $8
"""
SHARE_A_ROOM = """
SELECT EXISTS (
    SELECT 1 FROM users
    JOIN memberships AS theirs ON theirs.user_nid = users.nid AND theirs.membership = 'join'
    JOIN memberships AS mine ON mine.room_nid = theirs.room_nid AND mine.membership = 'join'
    WHERE users.user_id = $2 AND mine.user_nid = $1)
"""
SELECT_MUTUAL_ROOMS = """
SELECT rooms.nid, rooms.room_id FROM users
JOIN memberships AS theirs ON theirs.user_nid = users.nid AND theirs.membership = 'join'
JOIN memberships AS mine ON mine.room_nid = theirs.room_nid AND mine.membership = 'join'
JOIN rooms ON rooms.nid = mine.room_nid
WHERE users.user_id = $2 AND mine.user_nid = $1 AND mine.room_nid > $3
ORDER BY mine.room_nid LIMIT $4
"""
COUNT_MUTUAL_ROOMS = """
SELECT count(*) FROM users
JOIN memberships AS theirs ON theirs.user_nid = users.nid AND theirs.membership = 'join'
JOIN memberships AS mine ON mine.room_nid = theirs.room_nid AND mine.membership = 'join'
WHERE users.user_id = $2 AND mine.user_nid = $1
"""


@dataclass(frozen=True, slots=True)
class FoundUser:
    """A result of `search_users`."""

    user_id: str
    displayname: str | None
    avatar_url: str | None


def fold(text: str) -> str:
    """Text without the differences that a search ignores: case, accents, compatibility forms."""
    decomposed = unicodedata.normalize("NFKD", text).casefold()
    return "".join(character for character in decomposed if not unicodedata.combining(character))


def words_of(text: str) -> list[str]:
    """The folded words of a name or a search term, each once, at most WORDS_MAX."""
    words = dict.fromkeys(word[:WORD_LENGTH_MAX] for word in _WORD.findall(fold(text)))
    return list(words)[:WORDS_MAX]


async def search_users(
    source: Connection | Pool,
    user_nid: int,
    *,
    words: Sequence[str],
    user_id_prefix: str,
    candidates_max: int,
    results_max: int,
    all_local_users: bool,
) -> list[FoundUser]:
    """Users visible to ``user_nid`` whose name has words beginning with all of ``words``, or whose user
    id begins with ``user_id_prefix`` (in lower case).

    Considered are the first ``candidates_max`` by name, and as many by user id.
    """
    longest = max(words, key=len, default="")
    others = [word.replace("_", r"\_") + "%" for word in words if word != longest]
    rows = await source.fetch(
        SEARCH,
        user_nid,
        longest,
        longest + LAST_CHARACTER if longest else "",  # without a word, an empty range
        user_id_prefix,
        user_id_prefix + LAST_CHARACTER,
        others,
        candidates_max,
        results_max,
        all_local_users,
        WORD_MATCHES_MAX if others else candidates_max,
    )
    return [FoundUser(*row) for row in rows]


async def share_a_room(source: Connection | Pool, user_nid: int, other_user_id: str) -> bool:
    """Whether both are joined to some room."""
    return bool(await source.fetchval(SHARE_A_ROOM, user_nid, other_user_id))


async def fetch_mutual_rooms(
    source: Connection | Pool, user_nid: int, other_user_id: str, after: int, limit: int
) -> list[tuple[int, str]]:
    """(number, room id) of rooms that both are joined to, by number, those above ``after``."""
    rows = await source.fetch(SELECT_MUTUAL_ROOMS, user_nid, other_user_id, after, limit)
    return [(row[0], row[1]) for row in rows]


async def count_mutual_rooms(source: Connection | Pool, user_nid: int, other_user_id: str) -> int:
    """How many rooms both are joined to."""
    return int(await source.fetchval(COUNT_MUTUAL_ROOMS, user_nid, other_user_id))
