"""Published rooms of this server and of others, for clients.

Source: Client-Server API, "Published room directory"; Server-Server API, "Published Room Directory".
"""

from __future__ import annotations

from dataclasses import dataclass

from federation.canonical import JsonObject
from federation.transport.errors import RequestFailed
from homeserver.errors import PeerFailed
from homeserver.federating.asking import Asking, Question, failed
from homeserver.federating.summary_answers import checked_summary
from homeserver.requester import Requester
from homeserver.rooms.public_rooms import PAGE_DEFAULT, PAGE_MAX, DirectoryQuery, PublicRooms
from homeserver.rooms.room_summaries import directory_entry

PATH = "/_matrix/federation/v1/publicRooms"
TIMEOUT_S = 10.0
PAGE_BYTES_MAX = 1024 * 1024
TOKEN_LENGTH_MAX = 4096


@dataclass(frozen=True, slots=True)
class Directories:
    """Pages of directories; those of other servers are passed on as far as they make sense."""

    server_name: str
    public_rooms: PublicRooms
    asking: Asking

    async def page(self, requester: Requester | None, asker: str, query: DirectoryQuery) -> JsonObject:
        """`getPublicRooms`, `queryPublicRooms`: a page, as in public_rooms_response.yaml.

        Raises as `PublicRooms.page`, and NotFound, Forbidden, PeerFailed, LimitExceeded for other servers.
        """
        if query.server is None or query.server == self.server_name:
            return await self.public_rooms.page(requester, query)
        self.public_rooms.check_access(requester)
        try:
            return _page(await self.asking.ask(_question(query.server, query), asker))
        except RequestFailed as failure:
            raise failed(failure, "This server's directory is not known here") from failure


def _question(server: str, query: DirectoryQuery) -> Question:
    """The same query to another server; only what a GET cannot say is POSTed."""
    limit = min(query.limit, PAGE_MAX) if query.limit > 0 else PAGE_DEFAULT
    network = {"third_party_instance_id": query.third_party_instance_id}
    paging = {"since": query.since, **network}
    if query.search_term is None and query.room_types is None:
        given = tuple((key, value) for key, value in paging.items() if value is not None)
        parameters = (("limit", str(limit)), *given)
        return Question(
            destination=server, path=PATH, query=parameters, timeout_s=TIMEOUT_S, bytes_max=PAGE_BYTES_MAX
        )
    filter: JsonObject = {}
    if query.search_term is not None:
        filter["generic_search_term"] = query.search_term
    if query.room_types is not None:
        filter["room_types"] = list(query.room_types)
    body: JsonObject = {"limit": limit, "filter": filter}
    body |= {key: value for key, value in paging.items() if value is not None}
    return Question(destination=server, path=PATH, body=body, timeout_s=TIMEOUT_S, bytes_max=PAGE_BYTES_MAX)


def _page(answer: JsonObject) -> JsonObject:
    chunk = answer.get("chunk")
    if not isinstance(chunk, list):
        raise PeerFailed("The other server's answer is no list of rooms")
    entries = (checked_summary(entry) for entry in chunk[:PAGE_MAX])
    page: JsonObject = {"chunk": [directory_entry(entry) for entry in entries if entry is not None]}
    for token in ("next_batch", "prev_batch"):
        value = answer.get(token)
        if isinstance(value, str) and len(value) <= TOKEN_LENGTH_MAX:
            page[token] = value
    estimate = answer.get("total_room_count_estimate")
    if isinstance(estimate, int) and not isinstance(estimate, bool) and estimate >= 0:
        page["total_room_count_estimate"] = estimate
    return page
