"""What one answer of /sync is made for."""

from __future__ import annotations

from dataclasses import dataclass

from homeserver.filters.sync_filter import SyncFilter
from homeserver.requester import Requester
from homeserver.sync.token import SyncToken


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncRequest:
    """The parameters of `sync`, validated. `since` is None for an initial sync.

    `state_name` is what the state of a room is called in the answer: "state", or with `use_state_after` a
    name that says that it is the state after the timeline.
    """

    since: SyncToken | None
    filter: SyncFilter
    full_state: bool = False
    state_name: str = "state"
    timeout_ms: int = 0
    set_presence: str = "online"

    @property
    def use_state_after(self) -> bool:
        return self.state_name != "state"


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncContext:
    """One look at the log: what came after `since` up to `now`, for one device.

    `since` is 0 in an initial sync. `ignored` are the users whose events are not shown.
    """

    requester: Requester
    request: SyncRequest
    since: int
    now: SyncToken
    now_ms: int
    ignored: frozenset[str]

    @property
    def initial(self) -> bool:
        return self.request.since is None

    @property
    def upto(self) -> int:
        return self.now.position
