"""A room in memory: current state, forward extremities, members, and what is read from them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from heapq import nsmallest

import orjson

from federation.auth_events import auth_event_keys
from federation.auth_rules import AuthState
from federation.event import PDU, JsonObject
from federation.power_levels import PowerLevels
from federation.room_versions import RoomVersion
from homeserver.rooms.event import Event
from homeserver.rooms.room_servers import NOBODY, Servers, server_of
from homeserver.rooms.search_text import search_text
from homeserver.rooms.snapshots import SnapshotChain

StateKey = tuple[str, str]
MEMBER = "m.room.member"
OLDEST_MEMBERS = 6  # of a room, who name it for others where it has no name
PENDING = 2**63  # orders what has no position yet after all that has one
PDUS_MAX = 200  # parsed auth events kept a room
PREV_EVENTS_MAX = 20  # Server-Server API, "PDUs"
ROOM_BYTES = 4000  # of a Room without its events

JOIN_RULES = ("public", "knock", "invite", "private", "restricted", "knock_restricted")

# Event types whose change shows in the room's summary
SUMMARISED = {
    "m.room.create", "m.room.name", "m.room.topic", "m.room.avatar", "m.room.canonical_alias",
    "m.room.join_rules", "m.room.history_visibility", "m.room.guest_access", "m.room.encryption",
    "m.room.tombstone", MEMBER,
}  # fmt: skip


class _StatePdus:
    """The room's state as the authorisation rules look it up; parsed events are kept for the next time."""

    __slots__ = ("_room", "_pdus")

    def __init__(self, room: Room) -> None:
        self._room = room
        self._pdus: dict[str, PDU] = {}

    def get(self, key: StateKey, /) -> PDU | None:
        event = self._room.state.get(key)
        if event is None:
            return None
        pdu = self._pdus.get(event.event_id)
        if pdu is None:
            if len(self._pdus) >= PDUS_MAX:
                self._pdus.clear()
            pdu = self._pdus[event.event_id] = event.pdu(self._room.version)
        return pdu


class Room:
    """A loaded room. Its state may be ahead of what is durable by what is being committed.

    `stale` is set when something that it was built on was not written; whoever holds it then gets the
    room again from `Rooms`.
    """

    __slots__ = (
        "nid", "room_id", "version", "server_suffix", "generation", "chain", "extremities", "state", "stale",
        "local_members", "joined_count", "invited_count", "size_bytes", "auth_state", "pending", "is_new",
        "always_shared", "held", "last_commit", "resolved_at", "servers", "partial_servers",
        "_remote_servers", "_auth_ids", "_summary", "_heroes",
    )  # fmt: skip

    def __init__(self, *, nid: int, room_id: str, version: RoomVersion, server_name: str) -> None:
        self.nid = nid
        self.room_id = room_id
        self.version = version
        self.server_suffix = ":" + server_name
        self.generation = 0
        self.chain = SnapshotChain()
        self.extremities: tuple[Event, ...] = ()
        self.state: dict[StateKey, Event] = {}
        self.stale = False
        self.is_new = False
        self.pending = 0  # changes handed to the log that are not durable yet
        self.last_commit: asyncio.Future[None] | None = None  # of what is pending
        self.local_members: set[str] = set()
        self.servers: dict[str, int] = {}  # how many joined members each has
        self._remote_servers: Servers | None = NOBODY
        self.partial_servers: Servers | None = None  # in the room, while not all members are known
        self.joined_count = 0
        self.invited_count = 0
        self.size_bytes = ROOM_BYTES
        self.held: asyncio.Event | None = None  # local sends wait for it, while a resolution goes on
        self.resolved_at = 0  # the last position at which a resolution changed the state
        self.always_shared = True  # no history visibility ever was narrower than "shared"
        self.auth_state = AuthState(version, _StatePdus(self))
        self._auth_ids: dict[str, list[str]] = {}
        self._summary: JsonObject | None = None
        self._heroes: list[tuple[str, Event]] | None = None

    # -- reading --

    def state_event(self, type: str, state_key: str = "") -> Event | None:
        """The current state event, if any."""
        return self.state.get((type, state_key))

    def content_of(self, type: str, state_key: str = "") -> JsonObject:
        """The content of a current state event; empty where there is none."""
        event = self.state.get((type, state_key))
        return event.content if event is not None else {}

    def text_of(self, type: str, field: str) -> str | None:
        """A string in the content of a current state event with an empty key; None if it is no string."""
        value = self.content_of(type).get(field)
        return value if isinstance(value, str) else None

    def member(self, user_id: str) -> Event | None:
        """The user's current member event, if any."""
        return self.state.get((MEMBER, user_id))

    def membership(self, user_id: str) -> str:
        """The user's membership: `leave` for whoever never was here."""
        event = self.state.get((MEMBER, user_id))
        return membership_of(event) if event is not None else "leave"

    def members(self, *memberships: str) -> Iterator[tuple[str, Event]]:
        """User ids and member events of those with one of these memberships."""
        for (type, user_id), event in self.state.items():
            if type == MEMBER and membership_of(event) in memberships:
                yield user_id, event

    def oldest_members(self) -> list[tuple[str, Event]]:
        """The joined and invited members whose events are the oldest. Kept until a member event comes."""
        if self._heroes is None:
            members = self.members("join", "invite")
            self._heroes = nsmallest(OLDEST_MEMBERS, members, key=lambda item: item[1].nid or PENDING)
        return self._heroes

    @property
    def power_levels(self) -> PowerLevels:
        return self.auth_state.power_levels

    @property
    def history_visibility(self) -> str:
        """As now set; `shared` by default (Client-Server API, "Room History Visibility")."""
        value = self.text_of("m.room.history_visibility", "history_visibility")
        return value if value in ("world_readable", "shared", "invited", "joined") else "shared"

    @property
    def join_rule(self) -> str:
        return self.auth_state.join_rule

    @property
    def guests_can_join(self) -> bool:
        return self.content_of("m.room.guest_access").get("guest_access") == "can_join"

    @property
    def depth(self) -> int:
        """The depth of the newest event; 0 in a room without events."""
        return max((event.depth for event in self.extremities), default=0)

    @property
    def followed(self) -> bool:
        """Whether this node is told what happens in the room: one of its users is in it, or nobody at all.

        Of a room that all of them have left, what is known here is old, and what other servers say counts.
        """
        return bool(self.local_members) or not (self.joined_count or self.partial_servers)

    def is_local(self, user_id: str) -> bool:
        """Whether a user id belongs to this server."""
        return user_id.endswith(self.server_suffix)

    @property
    def remote_servers(self) -> Servers:
        """The other servers with joined members. The same object as long as these are the same."""
        if self._remote_servers is None:
            own = self.server_suffix[1:]
            known = {**self.servers, **dict.fromkeys(self.partial_servers or ())}
            self._remote_servers = tuple(server for server in known if server != own) or NOBODY
        return self._remote_servers

    def lacks_members_of(self, servers: Servers | None) -> None:
        """Not all members are known, but these servers have some: see `partial_rooms`. None if all are."""
        self.partial_servers = servers
        self._remote_servers = None

    def auth_event_ids(self, type: str, state_key: str | None, sender: str, content: JsonObject) -> list[str]:
        """What an event of this shape names as its auth events. Kept for messages, which have the same."""
        plain = type != MEMBER and type != "m.room.create"
        if plain and (known := self._auth_ids.get(sender)) is not None:
            return known
        keys = auth_event_keys(self.version, type, state_key, sender, content)
        ids = [event.event_id for key in keys if (event := self.state.get(key)) is not None]
        if plain:
            if len(self._auth_ids) >= PDUS_MAX:
                self._auth_ids.clear()
            self._auth_ids[sender] = ids
        return ids

    # -- changing --

    def load_state(self, events: Iterable[Event]) -> None:
        """Take over the current state, as read from storage."""
        for event in events:
            self._set(event)

    def apply(self, event: Event) -> None:
        """Append an authorised event that was built on this room's extremities."""
        self.extremities = (event, *self.extremities[PREV_EVENTS_MAX:])
        if event.state_key is not None:
            self._set(event)
            self._auth_ids.clear()
            if event.type in SUMMARISED:
                self._summary = None

    def move(self, extremities: tuple[Event, ...], changes: Mapping[StateKey, Event | None]) -> None:
        """Take over what events from elsewhere led to; None for state that there is no more."""
        self.extremities = extremities
        for key, event in changes.items():
            if event is not None:
                self._set(event)
            elif (previous := self.state.pop(key, None)) is not None:
                self.size_bytes -= previous.size_bytes
                if key[0] == MEMBER:
                    self._heroes = None
                    self._count(key[1], membership_of(previous), "leave")
        if changes:
            self._auth_ids.clear()
            self._summary = None

    def redact(self, event: Event) -> None:
        """Put the redacted form of a current state event in its place."""
        self.size_bytes += event.size_bytes - self.state[event.key].size_bytes
        self.state[event.key] = event
        self.auth_state = AuthState(self.version, _StatePdus(self))
        self._summary = None
        self._heroes = None

    def _set(self, event: Event) -> None:
        key = event.key
        previous = self.state.get(key)
        self.state[key] = event
        self.size_bytes += event.size_bytes - (previous.size_bytes if previous is not None else 0)
        if event.type == MEMBER:
            self._heroes = None
            self._count_member(event, previous)
        elif key == ("m.room.history_visibility", "") and not is_shared(event):
            self.always_shared = False

    def _count_member(self, event: Event, previous: Event | None) -> None:
        before = membership_of(previous) if previous is not None else "leave"
        self._count(event.state_key or "", before, membership_of(event))

    def _count(self, user_id: str, before: str, after: str) -> None:
        if before == after:
            return
        joined = (after == "join") - (before == "join")
        self.joined_count += joined
        if joined:
            self._count_server(server_of(user_id), joined)
        self.invited_count += (after == "invite") - (before == "invite")
        if user_id.endswith(self.server_suffix):
            if after == "join":
                self.local_members.add(user_id)
            else:
                self.local_members.discard(user_id)

    def _count_server(self, server: str, joined: int) -> None:
        """Count one member of a server more or less."""
        count = self.servers.get(server, 0) + joined
        if count > 0:
            self.servers[server] = count
        else:
            self.servers.pop(server, None)
        if count == 0 or count == joined:  # the last one went, or the first one came
            self._remote_servers = None

    # -- summary --

    @property
    def summary_outdated(self) -> bool:
        """Whether something changed that the stored summary shows, or may have."""
        return self._summary is None

    def summary(self) -> JsonObject:
        """What directories, hierarchies and summaries show of the room, kept in `rooms.summary`.

        Keys as in public_rooms_chunk.yaml and room_summary.yaml; absent where the room has none.
        """
        if self._summary is not None:
            return self._summary
        create = self.content_of("m.room.create")
        found: dict[str, str | None] = {
            "room_id": self.room_id,
            "room_version": self.version.id,
            "name": self.text_of("m.room.name", "name"),
            "topic": self.text_of("m.room.topic", "topic"),
            "avatar_url": self.text_of("m.room.avatar", "url"),
            "canonical_alias": self.text_of("m.room.canonical_alias", "alias"),
            "encryption": self.text_of("m.room.encryption", "algorithm"),
            "room_type": self.text_of("m.room.create", "type"),
        }
        # PostgreSQL cannot store NUL characters in text, and nobody wants to see them
        summary: JsonObject = {key: value.replace("\x00", "") for key, value in found.items() if value}
        if search := search_text(found["name"], found["canonical_alias"], found["topic"]):
            summary["search"] = search  # for the directory alone: see storage/room_summaries.py
        # A rule that no version knows lets nobody in, whatever it is.
        summary["join_rule"] = self.join_rule if self.join_rule in JOIN_RULES else "invite"
        summary["num_joined_members"] = self.joined_count
        summary["world_readable"] = self.history_visibility == "world_readable"
        summary["guest_can_join"] = self.guests_can_join
        if create.get("m.federate") is False:
            summary["federate"] = False
        allowed = self.allowed_room_ids()
        if allowed:
            summary["allowed_room_ids"] = allowed
        if not self.followed:
            summary["left"] = True  # what is said here is old: see `described_rooms`
        if ("m.room.tombstone", "") in self.state:
            summary["tombstoned"] = True
        self._summary = summary
        return summary

    def summary_json(self) -> str:
        return orjson.dumps(self.summary()).decode()

    def allowed_room_ids(self) -> list[str]:
        """Rooms whose members may join a restricted room. Source: Client-Server API, "Restricted rooms"."""
        if self.join_rule not in ("restricted", "knock_restricted"):
            return []
        allow = self.content_of("m.room.join_rules").get("allow")
        return [
            condition["room_id"]
            for condition in (allow if isinstance(allow, list) else [])
            if isinstance(condition, dict)
            and condition.get("type") == "m.room_membership"
            and isinstance(condition.get("room_id"), str)
            and "\x00" not in condition["room_id"]
        ]


def membership_of(event: Event) -> str:
    """The membership that a member event gives; `leave` if it names none."""
    membership = event.content.get("membership")
    return membership if isinstance(membership, str) else "leave"


def is_shared(history_visibility: Event) -> bool:
    """Whether a history visibility event lets members see what was sent before they joined."""
    return history_visibility.content.get("history_visibility") in ("shared", "world_readable")
