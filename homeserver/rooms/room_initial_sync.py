"""All that a client needs to show one room, for room previews. Source: room_initial_sync.yaml."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from homeserver.accounts.account_data import AccountData
from homeserver.commit_log.log import CommitLog
from homeserver.requester import Requester
from homeserver.rooms.aliases import Publication
from homeserver.rooms.client_events import ClientEvents, in_old_form
from homeserver.rooms.history_pages import LIMIT_MAX, HistoryPages, Wanted, after, before, token_of
from homeserver.rooms.presence import Presence, with_user_in_content
from homeserver.rooms.reading import END, START, Readers
from homeserver.rooms.state_reading import StateReading
from homeserver.storage.connection import Pool
from homeserver.storage.receipts import encode_receipts, fetch_receipts_since

MEMBERSHIPS = ("invite", "join", "leave", "ban")


@dataclass(frozen=True, slots=True)
class RoomInitialSync:
    """Makes the answer of `roomInitialSync`."""

    pool: Pool
    log: CommitLog
    readers: Readers
    pages: HistoryPages
    state_reading: StateReading
    client_events: ClientEvents
    account_data: AccountData
    publication: Publication
    presence: Presence

    async def read(self, requester: Requester, room_id: str, limit: int) -> bytes:
        """The newest events, the state, and what the user keeps of the room, as JSON. Raises Forbidden."""
        reading = await self.readers.open(room_id, requester.user_id)
        room, user_id = reading.room, requester.user_id
        position = self.log.position
        ignored = await self.account_data.ignored(user_id)
        wanted = Wanted(START, END, min(limit, LIMIT_MAX), True, ignored=ignored)
        page = await self.pages.read(reading, user_id, wanted)
        events = page.events[::-1]
        chunk = await self.client_events.encode(room, requester, events, with_room_id=True, ignored=ignored)
        # what the end of a stay is followed by is not for this user, so /events goes on from the log's end
        end = f"s{position}_0" if reading.left is None or not events else token_of(after(events[-1]))
        messages = b'{"chunk":[%b],"end":"%b"' % (b",".join(in_old_form(events, chunk)), end.encode())
        start = before(events[0]) if events else page.rest
        if start is not None:
            messages += b',"start":"%b"' % token_of(start).encode()
        state = await self.state_reading.state_of(reading)
        parts = [b'{"room_id":' + orjson.dumps(room.room_id)]
        membership = room.membership(user_id)
        if membership in MEMBERSHIPS:
            parts.append(b',"membership":"%b"' % membership.encode())
        parts.append(b',"messages":%b}' % messages)
        encoded = await self.client_events.encode_state(room, state.values())
        parts.append(b',"state":[%b]' % b",".join(in_old_form(state.values(), encoded)))
        published = await self.publication.is_published(room.nid)
        parts.append(b',"visibility":"%b"' % (b"public" if published else b"private"))
        kept = (await self.account_data.all(user_id, requester.user_nid)).rooms.get(room.nid, [])
        parts.append(b',"account_data":[%b]' % b",".join(kept))
        # Neither is in the specification any more, but clients of this endpoint are of an age to ask for it.
        present: list[bytes] = []
        receipts: list[bytes] = []
        if membership == "join":
            present = [
                with_user_in_content(event) for event in self.presence.of(self.presence.known_in(room))
            ]
            read = await fetch_receipts_since(self.pool, [room.nid], 0, user_id)
            receipts = encode_receipts(read.get(room.nid, ()))
        parts.append(b',"presence":[%b],"receipts":[%b]}' % (b",".join(present), b",".join(receipts)))
        return b"".join(parts)
