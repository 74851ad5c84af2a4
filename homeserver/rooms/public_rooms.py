"""The published room directory. Source: Client-Server API, "Published room directory".

Largest rooms first, then the newest. A token is a place in that order and the direction to go on in, so
that pages neither repeat nor miss a room because another one was published meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from federation.event import JsonObject
from homeserver.config.rooms import RoomsConfig
from homeserver.errors import GuestAccessForbidden, InvalidParam, MissingToken
from homeserver.requester import Requester
from homeserver.rooms.room_summaries import directory_entry
from homeserver.rooms.search_text import search_words
from homeserver.storage import room_summaries as sql
from homeserver.storage.connection import Pool
from homeserver.storage.room_summaries import FIRST, INTEGER_MAX, Place

PAGE_DEFAULT = PAGE_MAX = 100
SCANNED_MAX = 10_000  # rooms that one page of a search looks at
COUNTED_MAX = 10_000
ROOM_TYPES_MAX = 20
_TOKEN = re.compile(r"([np])([0-9]{1,10})_([0-9]{1,10})")


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryQuery:
    """What `getPublicRooms` and `queryPublicRooms` ask for.

    `limit` below 1 stands for the default. In `room_types`, None stands for rooms without a type.
    """

    limit: int = 0
    since: str | None = None
    search_term: str | None = None
    room_types: Sequence[str | None] | None = None
    third_party_instance_id: str | None = None
    server: str | None = None


@dataclass(frozen=True, slots=True)
class PublicRooms:
    """Lists published rooms."""

    pool: Pool
    config: RoomsConfig

    async def page(self, requester: Requester | None, query: DirectoryQuery) -> JsonObject:
        """A page of the directory, as in public_rooms_response.yaml.

        Raises as `check_access`, and InvalidParam (a token of no page).
        """
        self.check_access(requester)
        return await self._page(query, for_servers=False)

    async def page_for_servers(self, query: DirectoryQuery) -> JsonObject:
        """The same for another server, which is not shown rooms that it could not join. Raises InvalidParam.

        Source: Server-Server API, "Published Room Directory".
        """
        return await self._page(query, for_servers=True)

    async def _page(self, query: DirectoryQuery, *, for_servers: bool) -> JsonObject:
        if query.third_party_instance_id:
            return {"chunk": [], "total_room_count_estimate": 0}  # no network is bridged to here
        larger, beyond = _parse_token(query.since)
        limit = min(query.limit, PAGE_MAX) if query.limit > 0 else PAGE_DEFAULT
        words = search_words(query.search_term) if query.search_term else None
        listings = await sql.published(
            self.pool,
            beyond,
            larger=larger,
            words=words or None,
            room_types=_stored_types(query.room_types),
            scanned_max=SCANNED_MAX,
            limit=limit + 1,
        )
        page = listings[:limit]
        start = page[0].place if page and query.since is not None else None
        if len(listings) > limit:
            end: Place | None = page[-1].place
        else:  # is there more than was looked at?
            end = await sql.scan_end(self.pool, beyond, larger=larger, scanned_max=SCANNED_MAX)
        if larger:
            page.reverse()
        body: JsonObject = {
            "chunk": [
                directory_entry(listing.summary)
                for listing in page
                if listing.summary.get("federate", True) or not for_servers
            ],
            "total_room_count_estimate": await sql.count_published(self.pool, COUNTED_MAX),
        }
        next_place, prev_place = (start, end) if larger else (end, start)
        if next_place is not None:
            body["next_batch"] = f"n{next_place.members}_{next_place.room_nid}"
        if prev_place is not None:
            body["prev_batch"] = f"p{prev_place.members}_{prev_place.room_nid}"
        return body

    def check_access(self, requester: Requester | None) -> None:
        """Whether they may look at directories.

        Raises MissingToken and GuestAccessForbidden where these are for users only.
        """
        if self.config.public_directory:
            return
        if requester is None:
            raise MissingToken("This server shows its directory to its users only: log in first")
        if requester.is_guest:
            raise GuestAccessForbidden("This server shows its directory to its users only: register first")


def _parse_token(token: str | None) -> tuple[bool, Place]:
    """Whether to go on towards larger rooms, and from where. Raises InvalidParam."""
    if token is None:
        return False, FIRST
    match = _TOKEN.fullmatch(token)
    if match is None or max(int(match[2]), int(match[3])) > INTEGER_MAX:
        raise InvalidParam("This is no token of an earlier page of the directory")
    return match[1] == "p", Place(int(match[2]), int(match[3]))


def _stored_types(room_types: Sequence[str | None] | None) -> list[str] | None:
    if room_types is None:
        return None
    if len(room_types) > ROOM_TYPES_MAX:
        raise InvalidParam(f"At most {ROOM_TYPES_MAX} room types can be asked for at once")
    return [(room_type or "").replace("\x00", "") for room_type in room_types]
