"""One look at the log for one connection: what it is for, what happened, and the rooms that it tells of."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from homeserver.filters.sync_filter import NO_FILTER
from homeserver.requester import Requester
from homeserver.sync.context import SyncContext, SyncRequest
from homeserver.sync.sliding.connection import Connection
from homeserver.sync.sliding.connection_state import Delta, SentRoom, Told
from homeserver.sync.sliding.list_filter import ListedRoom
from homeserver.sync.sliding.request import Dialect, Scope, SlidingRequest
from homeserver.sync.sliding.required_state import Selection
from homeserver.sync.token import SyncToken

LEFT = ("leave", "ban")
STRIPPED = ("invite", "knock")
NO_EVENTS: Mapping[int, list[bytes]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What happened after the token that concerns the user: rooms with events or receipts, account data
    (encoded), rooms in which their own receipts moved, and in which somebody began or ceased to type."""

    rooms: Collection[int] = ()
    account: Sequence[bytes] = ()
    account_of_rooms: Mapping[int, list[bytes]] = field(default_factory=dict)
    own_receipts: Collection[int] = ()
    typing: Collection[int] = ()
    dms: bool = False  # which rooms are direct chats

    @property
    def concerned(self) -> set[int]:
        """All rooms of which there may be something to tell."""
        return {*self.rooms, *self.account_of_rooms, *self.own_receipts, *self.typing}


@dataclass(slots=True, kw_only=True)
class Candidate:
    """A room that a list or subscription asks for, and that may have news.

    `since` is the position up to which the client was told of it. `initial` if it is to be told from the
    start. `told` is what it will have been told afterwards.
    """

    room: ListedRoom
    lists: tuple[str, ...]
    subscribed: bool
    selection: Selection
    sent: SentRoom | None
    since: int
    initial: bool
    told: Told

    @property
    def nid(self) -> int:
        return self.room.nid

    @property
    def is_joined(self) -> bool:
        return self.room.membership == "join"

    @property
    def fell_behind(self) -> bool:
        return self.sent is not None and self.sent.behind > 0

    def was_told(self, what: Told) -> bool:
        """Whether the client was told of this, up to `since`."""
        return self.sent is not None and not self.initial and bool(self.sent.told & what)

    def within(self, scope: Scope | None) -> bool:
        """Whether an extension tells of the room."""
        return scope is not None and scope.covers(self.room.room_id, self.lists, subscribed=self.subscribed)


@dataclass(slots=True, kw_only=True)
class Look:
    """What came after `since` up to `now`, for one connection. `since` is None in its first request.

    `delta` gathers what the answer changes of the connection's state.
    """

    requester: Requester
    request: SlidingRequest
    connection: Connection
    since: SyncToken | None
    now: SyncToken
    now_ms: int
    ignored: frozenset[str]
    changes: Changes
    delta: Delta = field(default_factory=Delta)
    _contexts: dict[int, SyncContext] = field(default_factory=dict)

    @property
    def dialect(self) -> Dialect:
        return self.request.dialect

    @property
    def upto(self) -> int:
        return self.now.position

    def fall_behind(self, nid: int, sent: SentRoom | None) -> None:
        """Note that something of a room that was sent is not told now."""
        if sent is not None and not sent.behind and self.since is not None:
            self.delta.rooms[nid] = sent._replace(behind=max(1, self.since.position))

    def tell_account(self, what: Told, told: bool) -> None:
        """Note that the client will have been told of this of the account, or was not."""
        before = self.connection.told if self.delta.told is None else self.delta.told
        after = int(before | what if told else before & ~what)
        self.delta.told = after if after != self.connection.told else None

    def context(self, since: int) -> SyncContext:
        """What the parts of /sync are asked with: the state at the end of what came after a position."""
        context = self._contexts.get(since)
        if context is None:
            token = SyncToken(since, self.since.ephemeral if self.since is not None else 0)
            request = SyncRequest(since=token if since else None, filter=NO_FILTER, state_name="state_after")
            context = self._contexts[since] = SyncContext(
                requester=self.requester,
                request=request,
                since=since,
                now=self.now,
                now_ms=self.now_ms,
                ignored=self.ignored,
            )
        return context


def is_initial(room: ListedRoom, sent: SentRoom | None, since: int) -> bool:
    """Whether a room is to be told of from the start."""
    if sent is None:
        return True
    anew = room.since > since
    if room.membership in STRIPPED:
        return not sent.told & Told.STRIPPED or anew or room.event_nid > since
    if room.membership in LEFT:
        return bool(sent.told & Told.STRIPPED) or (anew and bool(sent.told & Told.DEPARTED))
    return anew or bool(sent.told & (Told.STRIPPED | Told.DEPARTED))
