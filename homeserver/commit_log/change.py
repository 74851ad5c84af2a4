"""What the commit log carries."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import ClassVar, Protocol, Self, TypeGuard

from homeserver.storage.connection import Connection


class Change(Protocol):
    """One durable change. A class a kind, beside the tables that it writes.

    `position` is 0 until the committer sets it, just before `write`. Where `is_visible`, clients are told of
    it (`VisibleChange`); of others only the subscribers are, and nobody keeps them.
    """

    position: int
    is_visible: ClassVar[bool]

    @classmethod
    async def write(cls, connection: Connection, changes: Sequence[Self]) -> None:
        """Store changes of this class, in one transaction with others, with few statements."""
        ...


class VisibleChange(Change, Protocol):
    """A change that clients are told of, so the live tail keeps it.

    `room_nid` is 0 for what belongs to no room. `owner` is the user who alone may see it, or None for what
    its room's members see. `audience` are local users to wake; it may be a live set and is read once the
    change is durable. `size_bytes` is about what the change takes in memory.
    """

    @property
    def room_nid(self) -> int: ...

    @property
    def owner(self) -> str | None: ...

    @property
    def audience(self) -> Collection[str]: ...

    @property
    def size_bytes(self) -> int: ...


def is_visible(change: Change) -> TypeGuard[VisibleChange]:
    """Whether clients are told of a change."""
    return change.is_visible


class Chain(Protocol):
    """What successive changes build on, such as a room in memory.

    Once `stale`, nothing built on it may be written: something before was lost.
    """

    stale: bool
