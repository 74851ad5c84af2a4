"""What somebody wants to send, before it is an event."""

from __future__ import annotations

from dataclasses import dataclass

from federation.event import JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An event to be built. `content` is handed over: nobody changes it afterwards.

    `redacts` names the target of a redaction. `device_nid` and `txn_id` make the sending idempotent
    (Client-Server API, "Transaction identifiers"). `origin_server_ts` is now, unless given.
    """

    sender: str
    type: str
    content: JsonObject
    state_key: str | None = None
    redacts: str | None = None
    device_nid: int | None = None
    txn_id: str | None = None
    origin_server_ts: int | None = None
