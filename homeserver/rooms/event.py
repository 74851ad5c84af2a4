"""A room event as the node keeps it, and its form for clients as ready bytes."""

from __future__ import annotations

from typing import Any

import asyncpg
import orjson

from federation.event import PDU, JsonObject, parse_pdu
from federation.room_versions import RoomVersion

FLAG_OUTLIER = 1  # known, but not part of the room's timeline here
FLAG_REJECTED = 2
FLAG_SOFT_FAILED = 4

OBJECT_BYTES = 400  # of an Event without its JSON
TXN_SEPARATOR = "\x1f"  # between a redaction's transaction id and the event that its path names


class Event:
    """One event. Its identity is `event_id`; `nid` is its number here: the log position, once durable.

    `json` are the exact bytes of the signed PDU (of its redacted form once `redacted_by` is set). What is
    derived from them is derived when first asked for. `snapshot` numbers the state before the event.
    """

    __slots__ = (
        "nid", "room_nid", "event_id", "type", "state_key", "origin_server_ts", "depth", "snapshot", "flags",
        "json", "device_nid", "txn_id", "replaces", "replaces_state", "prev_content", "redacted_by",
        "redaction_fields", "_sender", "_content", "_client",
    )  # fmt: skip

    def __init__(
        self,
        *,
        room_nid: int,
        event_id: str,
        type: str,
        state_key: str | None,
        origin_server_ts: int,
        depth: int,
        snapshot: int,
        json: bytes,
        nid: int = 0,
        flags: int = 0,
        device_nid: int | None = None,
        txn_id: str | None = None,
        replaces: Event | int | None = None,
        replaces_state: str | None = None,
        prev_content: bytes | None = None,
    ) -> None:
        self.nid = nid
        self.room_nid = room_nid
        self.event_id = event_id
        self.type = type
        self.state_key = state_key
        self.origin_server_ts = origin_server_ts
        self.depth = depth
        self.snapshot = snapshot
        self.flags = flags
        self.json = json
        self.device_nid = device_nid
        self.txn_id = txn_id
        self.replaces = replaces
        self.replaces_state = replaces_state
        self.prev_content = prev_content
        self.redacted_by: int | None = None
        self.redaction_fields: bytes | None = None
        self._sender: str | None = None
        self._content: JsonObject | None = None
        self._client: bytes | None = None

    @classmethod
    def of_pdu(cls, pdu: PDU, json: bytes, **rest: Any) -> Event:
        """A new event; `rest` are the fields that a PDU does not have."""
        event = cls(
            event_id=pdu.event_id,
            type=pdu.type,
            state_key=pdu.state_key,
            origin_server_ts=pdu.origin_server_ts,
            depth=pdu.depth,
            json=json,
            **rest,
        )
        event._sender = pdu.sender
        event._client = _client_form(pdu.event_id, pdu.json)
        if pdu.type == "m.room.member":
            event._content = pdu.content
        return event

    @classmethod
    def of_row(cls, row: asyncpg.Record) -> Event:
        """An event from storage: a row of `homeserver.storage.events`."""
        event = cls(
            nid=row["nid"],
            room_nid=row["room_nid"],
            event_id=row["event_id"],
            type=row["type"],
            state_key=row["state_key"],
            origin_server_ts=row["origin_server_ts"],
            depth=row["depth"],
            snapshot=row["snapshot"],
            flags=row["flags"],
            json=row["json"],
            device_nid=row["device_nid"],
            txn_id=row["txn_id"],
            replaces=row["replaces"],
        )
        event.redacted_by = row["redacted_by"]
        return event

    @classmethod
    def of_timeline_row(cls, row: asyncpg.Record) -> Event:
        """As `of_row`, of a row that holds what it replaced and what redacted it too."""
        event = cls.of_row(row)
        if row["replaced_json"] is not None:
            event.replaces_state = row["replaced_id"]
            if event.redacted_by is None:
                event.prev_content = orjson.dumps(orjson.loads(row["replaced_json"])["content"])
        if row["redaction_json"] is not None:
            event.redaction_fields = _redaction_fields(
                row["redaction_id"], _client_form(row["redaction_id"], orjson.loads(row["redaction_json"]))
            )
        return event

    def _read(self) -> None:
        json = orjson.loads(self.json)
        self._sender = json["sender"]
        self._content = json["content"]
        self._client = _client_form(self.event_id, json)

    @property
    def sender(self) -> str:
        if self._sender is None:
            self._read()
        return self._sender or ""

    @property
    def content(self) -> JsonObject:
        """The event's content; not to be changed. Read anew each time for what is not kept in memory."""
        if self._content is not None:
            return self._content
        content: JsonObject = orjson.loads(self.json)["content"]
        if self.state_key is not None:
            self._content = content
        return content

    @property
    def client(self) -> bytes:
        """The client format without `room_id`, `unsigned` and the closing brace."""
        if self._client is None:
            self._read()
        return self._client or b""

    @property
    def key(self) -> tuple[str, str]:
        """(type, state_key) of a state event."""
        return self.type, self.state_key or ""

    @property
    def size_bytes(self) -> int:
        return 2 * len(self.json) + OBJECT_BYTES

    def pdu(self, version: RoomVersion) -> PDU:
        """The event as the rules read it. Parsed anew each time."""
        return parse_pdu(orjson.loads(self.json), version, event_id=self.event_id)

    def redacted(self, json: bytes, redaction: Event) -> None:
        """Put the redacted form in place."""
        self.json = json
        self._content = None
        self._client = None
        self.prev_content = None
        self.redacted_by = redaction.nid
        self.redaction_fields = _redaction_fields(redaction.event_id, redaction.client)

    def encode(
        self,
        now_ms: int,
        *,
        room_id: str | None = None,
        device_nid: int | None = None,
        membership: str | None = None,
        relations: bytes | None = None,
        with_previous: bool = True,
    ) -> bytes:
        """The event as a client sees it.

        With `room_id` outside of sync. `device_nid` is the requesting device's: its own events carry
        their transaction id. `membership` is the requester's at the time of the event, `relations` the
        bundled aggregations as a JSON object. `with_previous` if they may see the event that was replaced.
        Source: Client-Server API, "Room event format" (client_event.yaml).
        """
        parts = [self.client]
        if room_id is not None:
            parts.append(b',"room_id":' + orjson.dumps(room_id))
        parts.append(b',"unsigned":{"age":%d' % max(0, now_ms - self.origin_server_ts))
        if membership is not None:
            parts.append(b',"membership":"%b"' % membership.encode())
        if with_previous and self.prev_content is not None:
            parts.append(b',"prev_content":%b' % self.prev_content)
        if self.replaces_state is not None:
            parts.append(b',"replaces_state":' + orjson.dumps(self.replaces_state))
        if self.txn_id is not None and device_nid is not None and self.device_nid == device_nid:
            txn_id = self.txn_id
            if self.type == "m.room.redaction":
                txn_id = txn_id.partition(TXN_SEPARATOR)[0]
            parts.append(b',"transaction_id":' + orjson.dumps(txn_id))
        if self.redaction_fields is not None:
            parts.append(b"," + self.redaction_fields)
        if relations is not None:
            parts.append(b',"m.relations":' + relations)
        parts.append(b"}}")
        return b"".join(parts)

    def encode_state(self) -> bytes:
        """The event as it stands in a `state` section, where nobody asks for its age or sender's device."""
        if self.redaction_fields is not None:
            return self.client + b',"unsigned":{%b}}' % self.redaction_fields
        return self.client + b"}"

    def stripped(self) -> JsonObject:
        """The event as stripped state. Source: Client-Server API, "Stripped state"."""
        return {
            "content": self.content,
            "sender": self.sender,
            "state_key": self.state_key or "",
            "type": self.type,
        }

    def __repr__(self) -> str:
        return f"<Event {self.event_id} {self.type}>"  # content never reaches a log by accident


def _redaction_fields(event_id: str, client: bytes) -> bytes:
    """What `unsigned` says of the redaction: the event, and its id, which some read who want no more."""
    return b'"redacted_because":%b},"redacted_by":%b' % (client, orjson.dumps(event_id))


def _client_form(event_id: str, json: JsonObject) -> bytes:
    content = json["content"]
    client: JsonObject = {
        "content": content,
        "event_id": event_id,
        "origin_server_ts": json["origin_server_ts"],
        "sender": json["sender"],
        "type": json["type"],
    }
    if "state_key" in json:
        client["state_key"] = json["state_key"]
    if json["type"] == "m.room.redaction":
        # "For backwards-compatibility with older clients, servers should add a redacts property to the
        # top level … [and] to the content": rooms/v11, "Moving the redacts property".
        redacts = json.get("redacts") or content.get("redacts")
        if redacts is not None:
            client["redacts"] = redacts
            client["content"] = {**content, "redacts": redacts}
    return orjson.dumps(client)[:-1]
