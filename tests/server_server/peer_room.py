"""A room as a server of the tests has it: every event by ID, and the state before each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from federation.auth_events import select_auth_events
from federation.building import build_event
from federation.canonical import JsonObject
from federation.event import PDU, StateKey, parse_pdu
from federation.hashing import reference_hash
from federation.keys import SigningKey
from federation.room_versions import RoomVersion, room_version
from homeserver.clock import now_ms

MEMBER = "m.room.member"


@dataclass(slots=True)
class PeerRoom:
    """It judges nothing: what is added has happened. `build` makes events that are not added."""

    version: RoomVersion
    server_name: str
    key: SigningKey
    room_id: str = ""
    events: dict[str, PDU] = field(default_factory=dict)
    states: dict[str, dict[StateKey, PDU]] = field(default_factory=dict)
    """The state before each event."""
    state: dict[StateKey, PDU] = field(default_factory=dict)
    """The state after the newest."""
    newest: list[PDU] = field(default_factory=list)

    @classmethod
    def create(
        cls, server_name: str, key: SigningKey, creator: str, version: str = "12", join_rule: str = "public"
    ) -> PeerRoom:
        """A room of this server's, with its creator in it."""
        row = room_version(version)
        room = cls(row, server_name, key)
        if not row.room_id_is_create_hash:
            room.room_id = f"!{now_ms()}{len(creator)}:{server_name}"
        content: JsonObject = {"room_version": version}
        if row.creator_in_content:
            content["creator"] = creator
        room.make(creator, "m.room.create", content, "")
        room.make(creator, MEMBER, {"membership": "join"}, creator)
        users = {} if row.privileged_creators else {creator: 100}
        room.make(creator, "m.room.power_levels", {"users": users}, "")
        room.make(creator, "m.room.join_rules", {"join_rule": join_rule}, "")
        return room

    @classmethod
    def joined(
        cls, server_name: str, key: SigningKey, version: str, answer: JsonObject, join: JsonObject
    ) -> PeerRoom:
        """A room as ``send_join`` has answered."""
        row = room_version(version)
        room = cls(row, server_name, key)
        for json in answer["auth_chain"]:
            room._keep(parse_pdu(json, row))
        for json in answer["state"]:
            pdu = room._keep(parse_pdu(json, row))
            assert pdu.key is not None
            room.state[pdu.key] = pdu
        room.add(parse_pdu(join, row))
        room.room_id = room.newest[0].room_id
        return room

    # -- making events

    def build(
        self,
        sender: str,
        type: str = "m.room.message",
        content: JsonObject | None = None,
        state_key: str | None = None,
        *,
        prev: Sequence[PDU] | None = None,
        auth: Sequence[PDU] | None = None,
        depth: int | None = None,
        key: SigningKey | None = None,
        **more: Any,
    ) -> PDU:
        """An event of this server's, on top of the newest unless it is said otherwise."""
        content = {"msgtype": "m.text", "body": "hello"} if content is None else content
        prev = self.newest if prev is None else prev
        if auth is None:
            auth = select_auth_events(self.version, type, state_key, sender, content, self.state.get)
        hashes = {each.event_id: reference_hash(each.json, self.version) for each in (*prev, *auth)}
        pdu, _ = build_event(
            version=self.version,
            room_id=self.room_id or None,
            type=type,
            state_key=state_key,
            sender=sender,
            content=content,
            prev_events=[each.event_id for each in prev],
            auth_events=[each.event_id for each in auth],
            depth=max((each.depth for each in prev), default=0) + 1 if depth is None else depth,
            origin_server_ts=more.pop("ts_ms", None) or now_ms(),
            server_name=self.server_name,
            key=key or self.key,
            reference_hashes=None if self.version.event_id_is_hash else hashes,
            **more,
        )
        return pdu

    def make(self, sender: str, *arguments: Any, **more: Any) -> PDU:
        """Build an event and add it."""
        return self.add(self.build(sender, *arguments, **more))

    def add(self, pdu: PDU) -> PDU:
        """Put an event on top of the newest."""
        self._keep(pdu)
        self.states[pdu.event_id] = dict(self.state)
        self.newest = [each for each in self.newest if each.event_id not in pdu.prev_events] + [pdu]
        if pdu.key is not None:
            self.state[pdu.key] = pdu
        if not self.room_id:
            self.room_id = pdu.room_id
        return pdu

    def hear(self, json: JsonObject) -> PDU:
        """Add an event that another server has sent."""
        return self.add(parse_pdu(json, self.version))

    def altered(self, pdu: PDU, **fields: Any) -> PDU:
        """An event with other fields under the signature that it had."""
        return parse_pdu({**pdu.json, **fields}, self.version)

    def _keep(self, pdu: PDU) -> PDU:
        return self.events.setdefault(pdu.event_id, pdu)

    # -- what others ask for

    def auth_chain(self, pdus: Iterable[PDU]) -> list[PDU]:
        """The events behind these, without them."""
        chain: dict[str, PDU] = {}
        pending = [event_id for pdu in pdus for event_id in pdu.auth_events]
        while pending:
            event_id = pending.pop()
            if event_id not in chain and event_id in self.events:
                chain[event_id] = self.events[event_id]
                pending += chain[event_id].auth_events
        return list(chain.values())

    def before(self, event_ids: Iterable[str], limit: int, stop: Iterable[str] = ()) -> list[PDU]:
        """These events and those before them, breadth first, without going past those of ``stop``."""
        found: dict[str, PDU] = {}
        pending = list(event_ids)
        stopping = set(stop)
        while pending and len(found) < limit:
            event_id = pending.pop(0)
            pdu = self.events.get(event_id)
            if pdu is not None and event_id not in found and event_id not in stopping:
                found[event_id] = pdu
                pending += pdu.prev_events
        return list(found.values())
