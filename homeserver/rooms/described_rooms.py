"""Rooms that this node is not in, as other servers describe them; `homeserver.federating` asks these."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from federation.event import JsonObject


@dataclass(frozen=True, slots=True)
class DescribedRoom:
    """A room and its children, checked for their form. `summary` has the keys of `Room.summary`."""

    summary: JsonObject
    children_state: Sequence[JsonObject] = ()
    """As in space_hierarchy.yaml, in their order."""
    children: Mapping[str, JsonObject] = field(default_factory=dict)
    """Summaries by room id, of some of the children."""
    inaccessible: frozenset[str] = frozenset()
    """Children that nobody of this server could enter: they are not asked for."""
    size_bytes: int = 0
    """About how much `children_state` takes."""


class RoomDescriber(Protocol):
    """Asks other servers for rooms."""

    async def describe(
        self, room_id: str, via: Sequence[str], asker: str, *, suggested_only: bool = False
    ) -> DescribedRoom | None:
        """The room as one of the servers in ``via`` describes it, else None. Raises LimitExceeded.

        ``asker`` is the user, or the address of who is not logged in.
        """


class AliasResolver(Protocol):
    """Finds rooms by aliases of any server."""

    async def resolve(self, alias: str, asker: str) -> JsonObject:
        """``room_id`` and ``servers``. Raises MatrixError."""

    async def lookup_all(self, aliases: Collection[str], asker: str) -> dict[str, str]:
        """The rooms of those aliases that name any."""


def is_followed(stored: JsonObject | None) -> bool:
    """Whether a stored summary is kept up to date: somebody here is in the room, or nobody anywhere."""
    return stored is not None and bool(stored.get("room_id")) and not stored.get("left")
