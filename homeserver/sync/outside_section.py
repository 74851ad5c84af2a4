"""Rooms that this node is not in, in an answer of /sync: invites, knocks, and how these ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from homeserver.accounts.account_data import AccountData
from homeserver.rooms.outside_changes import OutsideMembership
from homeserver.rooms.outside_rooms import OutsideRooms
from homeserver.rooms.room import membership_of
from homeserver.rooms.user_rooms import UserRoom
from homeserver.sync.context import SyncContext

STRIPPED = ("invite", "knock")


@dataclass(frozen=True, slots=True)
class OutsideSection:
    """Encodes them from what the other servers showed of the rooms."""

    outside: OutsideRooms
    account_data: AccountData

    async def add(
        self, context: SyncContext, entries: Sequence[UserRoom], sections: dict[bytes, list[bytes]]
    ) -> None:
        """Add the user's rooms of this kind to the sections of their memberships."""
        user = context.requester
        found = await self.outside.of_user(user.user_nid, [entry.room_nid for entry in entries])
        blocked: bool | None = None
        for entry in entries:
            known = found.get(entry.room_nid)
            if known is None or membership_of(known.event) != entry.membership:
                continue  # it has changed since: the next sync tells
            if entry.membership == "invite":
                # "Invite permission", "Ignoring Users", as for rooms that this node is in
                if blocked is None:
                    blocked = bool(await self.account_data.blocking_invites((user.user_id,)))
                if blocked or known.event.sender in context.ignored:
                    continue
            section = entry.membership if entry.membership in STRIPPED else "leave"
            encoded = orjson.dumps(entry.room_id) + b":" + self._encode(context, entry, known)
            sections[section.encode()].append(encoded)

    def _encode(self, context: SyncContext, entry: UserRoom, known: OutsideMembership) -> bytes:
        if entry.membership in STRIPPED:
            return b'{"%b_state":{"events":%b}}' % (entry.membership.encode(), known.stripped)
        events = known.event.encode(context.now_ms)
        return (
            b'{"timeline":{"events":[%b],"limited":false,"prev_batch":"%b"},"%b":{"events":[]},'
            b'"account_data":{"events":[]}}'
            % (events, str(context.now).encode(), context.request.state_name.encode())
        )
