"""Finding people, and the rooms shared with them.

Source: Client-Server API, "User Directory", "Mutual Rooms".
"""

from __future__ import annotations

from dataclasses import dataclass

from homeserver.config.people import UserDirectoryConfig
from homeserver.errors import InvalidParam
from homeserver.requester import Requester
from homeserver.storage import user_directory as sql
from homeserver.storage.connection import Pool
from homeserver.storage.user_directory import FoundUser

TERM_LENGTH_MAX = 512
RESULTS_DEFAULT = 10
RESULTS_MAX = 50
# How many are looked at by name, and as many by user id, for one search: fewer where all may be shown.
# Measured with 100,000 users: 40 ms and 150 ms at most.
CANDIDATES_MAX = 500
CANDIDATES_TO_FILTER_MAX = 2000
MUTUAL_ROOMS_PAGE = 500


@dataclass(frozen=True, slots=True)
class MutualRooms:
    """A page of room ids; ``count`` is of all pages, ``next_batch`` None on the last one."""

    room_ids: list[str]
    count: int
    next_batch: str | None


@dataclass(frozen=True, slots=True)
class UserDirectory:
    """Search by the beginning of words of display names, and of user ids."""

    pool: Pool
    config: UserDirectoryConfig

    async def search(self, requester: Requester, term: str, limit: int) -> tuple[list[FoundUser], bool]:
        """`searchUserDirectory`: users, and whether there are more.

        Raises InvalidParam on a term that is too long.
        """
        term = term.strip()
        if len(term) > TERM_LENGTH_MAX or "\x00" in term:
            raise InvalidParam(f"A search term may have {TERM_LENGTH_MAX} characters at most, and no NUL")
        if not term:
            return [], False
        limit = min(max(limit, 0), RESULTS_MAX)
        everyone = self.config.search_all_users
        user_id_prefix = term.lower() if term.startswith("@") else "@" + term.lower()
        found = await sql.search_users(
            self.pool,
            requester.user_nid,
            words=() if term.startswith("@") else sql.words_of(term),
            user_id_prefix=user_id_prefix,
            candidates_max=CANDIDATES_MAX if everyone else CANDIDATES_TO_FILTER_MAX,
            results_max=limit + 1,
            all_local_users=everyone,
        )
        return found[:limit], len(found) > limit

    async def mutual_rooms(self, requester: Requester, user_id: str, batch: str | None) -> MutualRooms:
        """`getMutualRooms`; empty for a user that nobody here knows.

        Raises InvalidParam for the requester's own id, for what is no user id, and for a bad ``batch``.
        """
        if user_id == requester.user_id:
            raise InvalidParam("Name another user than yourself")
        if not user_id.startswith("@") or ":" not in user_id or len(user_id.encode()) > 255:
            raise InvalidParam("The user ID provided was invalid")
        after = _parse_batch(batch)
        rooms = await sql.fetch_mutual_rooms(
            self.pool, requester.user_nid, user_id, after, MUTUAL_ROOMS_PAGE + 1
        )
        page = rooms[:MUTUAL_ROOMS_PAGE]
        is_whole = after == 0 and len(rooms) <= MUTUAL_ROOMS_PAGE
        return MutualRooms(
            room_ids=[room_id for _, room_id in page],
            count=len(page)
            if is_whole
            else await sql.count_mutual_rooms(self.pool, requester.user_nid, user_id),
            next_batch=str(page[-1][0]) if len(rooms) > len(page) else None,
        )


def _parse_batch(batch: str | None) -> int:
    """The number of the last room of the page before."""
    if batch is None:
        return 0
    if not (batch.isascii() and batch.isdigit() and len(batch) <= 10) or int(batch) > 2**31 - 1:
        raise InvalidParam("This is no token of an earlier answer")
    return int(batch)
