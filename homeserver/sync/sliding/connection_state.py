"""The state of a connection: which rooms were sent and how, and the form in which it is stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntFlag
from typing import Any, NamedTuple

import orjson

from homeserver.sync.sliding.required_state import Selection


class Told(IntFlag):
    """What the client was told of a room, and of the account."""

    DM = 1  # that the room is a direct chat
    RECEIPTS = 2  # receipts, as far as the room
    ACCOUNT_DATA = 4  # account data: the room's, or the account's
    STRIPPED = 8  # of the room as one to which the user is invited, or knocks
    DEPARTED = 16  # that the user is not in the room any more
    THREADS = 32  # of the account: thread subscriptions


class SentRoom(NamedTuple):
    """A room that was sent: with which selection, the number of the oldest event of the unbroken timeline
    that the client has (0: from the room's beginning), the position up to which it was told of if it fell
    behind, else 0, and `Told`."""

    selection: int
    start: int
    behind: int
    told: int


@dataclass(slots=True)
class Delta:
    """What an answer changes of a connection's state; None for a room that is forgotten."""

    rooms: dict[int, SentRoom | None] = field(default_factory=dict)
    selections: dict[int, Selection] = field(default_factory=dict)
    told: int | None = None
    numbers: dict[Selection, int] = field(default_factory=dict)  # of the selections

    def __bool__(self) -> bool:
        return bool(self.rooms) or self.told is not None

    def encode(self) -> bytes:
        return orjson.dumps(
            {
                "rooms": [[nid, *(sent or ())] for nid, sent in self.rooms.items()],
                "selections": [[number, each.to_json()] for number, each in self.selections.items()],
                "told": self.told,
            }
        )

    @classmethod
    def of_json(cls, stored: Mapping[str, Any]) -> Delta:
        return cls(
            {nid: SentRoom(*rest) if rest else None for nid, *rest in stored["rooms"]},
            {number: Selection.of_json(each) for number, each in stored["selections"]},
            stored["told"],
        )
