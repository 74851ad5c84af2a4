"""A client of sliding sync for tests, in the form that current clients speak."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.api.client import JsonObject, User

PATH = "/unstable/org.matrix.simplified_msc3575/sync"
STABLE_PATH = "/v4/sync"


def wanting(*required_state: tuple[str, str], timeline_limit: int = 1) -> JsonObject:
    """What is wanted of a room."""
    return {"timeline_limit": timeline_limit, "required_state": [list(pair) for pair in required_state]}


def listing(
    range: tuple[int, int],
    *required_state: tuple[str, str],
    timeline_limit: int = 1,
    filters: JsonObject | None = None,
) -> JsonObject:
    """A list of one range."""
    listed: dict[str, Any] = wanting(*required_state, timeline_limit=timeline_limit)
    listed["ranges"] = [list(range)]
    return listed | ({"filters": filters} if filters is not None else {})


@dataclass(slots=True)
class SlidingClient:
    """One connection. Change its fields between requests as a client does."""

    user: User
    conn_id: str = "test"
    lists: dict[str, JsonObject] = field(default_factory=dict)
    subscriptions: dict[str, JsonObject] = field(default_factory=dict)
    extensions: JsonObject = field(default_factory=dict)
    pos: str | None = None

    async def ask(self, *, timeout_ms: int = 0) -> JsonObject:
        """One answer, which is then as good as lost unless it is taken."""
        body = {
            "conn_id": self.conn_id,
            "lists": self.lists,
            "room_subscriptions": self.subscriptions,
            "extensions": self.extensions,
        }
        answer: JsonObject = await self.user.call(
            "POST", PATH, json=body, query={"pos": self.pos, "timeout": timeout_ms}
        )
        return answer

    def take(self, answer: JsonObject) -> None:
        """Go on from an answer."""
        self.pos = answer["pos"]

    async def sync(self, *, timeout_ms: int = 0) -> JsonObject:
        """One answer, taken."""
        answer = await self.ask(timeout_ms=timeout_ms)
        self.take(answer)
        return answer
