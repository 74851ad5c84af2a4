"""The threads of a room, those with the newest answers first. Source: threads_list.yaml."""

from __future__ import annotations

import re
from dataclasses import dataclass

from homeserver.accounts.account_data import AccountData
from homeserver.errors import InvalidParam
from homeserver.requester import Requester
from homeserver.rooms.client_events import ClientEvents
from homeserver.rooms.event import Event
from homeserver.rooms.reading import Readers, Reading
from homeserver.rooms.relations import Relations
from homeserver.rooms.relations_of import relation_of
from homeserver.rooms.visibility import Visibility, redacted_copy
from homeserver.storage import relations as sql
from homeserver.storage.connection import Pool

LIMIT_MAX = 200
ROUNDS_MAX = 10
_TOKEN = re.compile(r"r(-?[0-9]{1,18})")  # roots whose newest answer has a lower number
NEWEST = 10**18


@dataclass(frozen=True, slots=True)
class Threads:
    """Lists thread roots with their bundled aggregations."""

    pool: Pool
    readers: Readers
    visibility: Visibility
    relations: Relations
    client_events: ClientEvents
    account_data: AccountData

    async def page(
        self, requester: Requester, room_id: str, *, participated: bool, limit: int, start: str | None
    ) -> bytes:
        """`getThreadRoots`, as JSON. Raises Forbidden, InvalidParam (the token)."""
        reading = await self.readers.open(room_id, requester.user_id)
        match = _TOKEN.fullmatch(start) if start is not None else None
        if start is not None and match is None:
            raise InvalidParam("This is not a token that this endpoint gave: leave it out to start anew")
        ignored = await self.account_data.ignored(requester.user_id)
        roots, rest = await self._read(
            reading,
            requester,
            before=int(match[1]) if match is not None else NEWEST,
            limit=min(limit, LIMIT_MAX),
            participated=participated,
            ignored=ignored,
        )
        room = reading.room
        # "If the thread root event was sent by an ignored user, the event is returned redacted"
        roots = [redacted_copy(root, room) if root.sender in ignored else root for root in roots]
        chunk = await self.client_events.encode(room, requester, roots, with_room_id=True, ignored=ignored)
        body = b'{"chunk":[%b]' % b",".join(chunk)
        if rest is not None:
            body += b',"next_batch":"r%d"' % rest
        return body + b"}"

    async def _read(
        self,
        reading: Reading,
        requester: Requester,
        *,
        before: int,
        limit: int,
        participated: bool,
        ignored: frozenset[str],
    ) -> tuple[list[Event], int | None]:
        """Roots, and the number below which to go on if there may be more."""
        room, user_id = reading.room, requester.user_id
        upto = await self.relations.upto(room, user_id)
        found: list[Event] = []
        for _ in range(ROUNDS_MAX):
            rows = await sql.threads(
                self.pool, room.nid, min(before, upto + 1), upto, list(ignored), user_id, limit
            )
            latest: dict[int, int] = {}
            roots: list[Event] = []
            for row in rows:
                if row["nid"] is None:
                    continue
                root = Event.of_timeline_row(row)
                latest[root.nid] = row["latest"]
                wanted = not participated or row["participated"] or root.sender == user_id
                if wanted and relation_of(root.content) is None:
                    roots.append(root)
            for root in await self.visibility.filter(room, user_id, roots):
                found.append(root)
                if len(found) == limit:
                    return found, latest[root.nid]
            if not rows:
                return found, None
            before = rows[-1]["latest"]
        return found, before
