"""Who is online, told to partners and heard from them: those that ``federation.presence_servers`` names.

Source: Server-Server API, "Presence".
"""

from __future__ import annotations

from collections.abc import Collection

from federation.canonical import JsonObject
from homeserver.clock import Clock, now_ms
from homeserver.commit_log.ephemeral import PresenceStatus
from homeserver.config.federation import EVERY_SERVER
from homeserver.federating.sender import Sender
from homeserver.rooms.presence import STATES, STATUS_LENGTH_MAX, Presence
from homeserver.rooms.room_servers import server_of

PUSHED_MAX = 1_000  # users of one EDU; further ones are ignored
AGO_MAX_MS = 2**53 - 1


class PresenceEdus:
    """Follows `Presence` for our users, and feeds it with those of partners."""

    def __init__(
        self,
        presence: Presence,
        sender: Sender,
        partners: Collection[str],
        *,
        clock: Clock = now_ms,
    ) -> None:
        self._presence = presence
        self._sender = sender
        self._partners = frozenset(partners)
        self._with_everyone = EVERY_SERVER in self._partners
        self._clock = clock
        if self._partners:
            presence.on_change = self.tell

    def tell(self, user_id: str, status: PresenceStatus, servers: Collection[str]) -> None:
        """The status of one of our users changed, who shares rooms with users of these servers.

        "Servers should only send presence updates for users that the receiving server would be interested
        in."
        """
        content: JsonObject = {"presence": status.state, "currently_active": status.currently_active}
        if status.status_msg:
            content["status_msg"] = status.status_msg
        last_active_ms = status.last_active_ms or self._clock()
        self._sender.tell(
            servers if self._with_everyone else self._partners.intersection(servers),
            lambda queue: queue.put_presence(user_id, content, last_active_ms),
        )

    async def handle(self, origin: str, content: JsonObject) -> None:
        """``m.presence``, of users of a partner who share a room with ours."""
        push = content.get("push")
        if not (self._with_everyone or origin in self._partners) or not isinstance(push, list):
            return
        now = self._clock()
        for update in push[:PUSHED_MAX]:
            if isinstance(update, dict) and (status := _status(update, now)) is not None:
                user_id = update.get("user_id")
                if isinstance(user_id, str) and server_of(user_id) == origin:
                    await self._presence.remote_changed(user_id, status)


def _status(update: JsonObject, now: int) -> PresenceStatus | None:
    """What an entry of ``push`` says, if it has the right form."""
    state, ago, status_msg = (update.get(name) for name in ("presence", "last_active_ago", "status_msg"))
    if state not in STATES:
        return None
    if type(ago) is not int or not 0 <= ago <= AGO_MAX_MS:
        ago = None
    if not isinstance(status_msg, str) or len(status_msg) > STATUS_LENGTH_MAX:
        status_msg = None
    return PresenceStatus(
        str(state),
        max(1, now - ago) if ago is not None else 0,
        currently_active=update.get("currently_active") is True,
        status_msg=status_msg,
    )
