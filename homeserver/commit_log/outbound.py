"""What other servers are to be told and must not be lost on the way, other than room events."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Self

from federation.canonical import JsonObject, encode_legacy
from homeserver.storage import outbox
from homeserver.storage.connection import Connection


@dataclass(slots=True, eq=False)
class OutboundEdu:
    """An EDU for some servers, to be submitted in one unit with the changes that it tells of.

    Each destination gets its EDUs in the order of the log, again until it has answered. Without
    destinations nothing is stored. ``replaces`` is what it is about, where whoever gets it has no use for
    those before it that are about the same: where many wait for a server that is away, these are dropped.
    Raises NotCanonical for content that has no JSON form. Source: Server-Server API, "EDUs".
    """

    destinations: Collection[str]
    edu_type: str
    content: JsonObject
    replaces: str | None = None
    position: int = 0
    is_visible: ClassVar[bool] = False
    json: bytes = field(init=False)
    """The EDU as it stands in a transaction."""

    def __post_init__(self) -> None:
        self.json = encode_legacy({"content": self.content, "edu_type": self.edu_type})

    @classmethod
    async def write(cls, connection: Connection, changes: Sequence[Self]) -> None:
        rows = [
            outbox.OutboxRow(
                change.position, change.destinations, edu=change.json, edu_replaces=change.replaces
            )
            for change in changes
            if change.destinations
        ]
        if rows:
            await outbox.write(connection, rows)
