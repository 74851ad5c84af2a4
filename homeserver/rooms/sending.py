"""Sending messages and redacting events.

Source: Client-Server API, "Sending events to a room", "Redactions".
"""

from __future__ import annotations

from dataclasses import dataclass, field

from federation.event import JsonObject
from federation.identifiers import exceeds_bytes
from homeserver.errors import (
    BadJson,
    DuplicateAnnotation,
    Forbidden,
    InvalidParam,
    MissingParam,
    NotFound,
    Unknown,
    UserSuspended,
)
from homeserver.keyed_locks import KeyedLocks
from homeserver.requester import Requester
from homeserver.rooms.draft import Draft
from homeserver.rooms.event import TXN_SEPARATOR, Event
from homeserver.rooms.relations_of import Relation, relation_of
from homeserver.rooms.room import Room
from homeserver.rooms.rooms import Rooms
from homeserver.storage import annotations as annotation_sql
from homeserver.storage import events as event_sql
from homeserver.storage.connection import Pool

ANNOTATION = "m.annotation"
THREAD = "m.thread"
REDACTION = "m.room.redaction"
TXN_ID_BYTES_MAX = 255

AnnotationKey = tuple[str, str, str, str]  # sender, target, event type, key


@dataclass(frozen=True, slots=True)
class Sending:
    """Sends events that are not state."""

    pool: Pool
    rooms: Rooms
    annotation_locks: KeyedLocks[AnnotationKey] = field(default_factory=KeyedLocks)

    async def send(
        self, requester: Requester, room_id: str, event_type: str, txn_id: str | None, content: JsonObject
    ) -> str:
        """`sendMessage`: the event's id. Without a transaction id, what is sent twice is there twice.

        Raises Forbidden (also for rooms unknown here), BadJson, InvalidParam, TooLarge,
        DuplicateAnnotation, Unknown (a thread in a thread), UserSuspended.
        """
        if event_type == REDACTION:
            return await self._send_redaction(requester, room_id, txn_id, content)
        if requester.is_suspended:
            raise UserSuspended("Your account is suspended: you cannot send messages")
        _check_txn_id(txn_id)
        if not event_type:
            raise InvalidParam("An event type is not empty")
        draft = Draft(
            sender=requester.user_id,
            type=event_type,
            content=content,
            device_nid=requester.device_nid,
            txn_id=txn_id,
        )
        if "m.relates_to" in content:
            relation = relation_of(content)
            if relation is not None and relation.rel_type == ANNOTATION:
                return await self._annotate(room_id, draft, relation)
            if relation is not None and relation.rel_type == THREAD:
                await self._check_thread_root(room_id, draft, relation)
        try:
            return (await self.rooms.send(room_id, draft)).event_id
        except NotFound as cause:  # what exists is none of a stranger's business
            raise Forbidden("You are not in this room: join it first") from cause

    async def _check_thread_root(self, room_id: str, draft: Draft, relation: Relation) -> None:
        """Threads do not nest. Source: Client-Server API, "Validation of m.thread relationships"."""
        room = await self.rooms.get_joined(room_id, draft.sender)
        for row in await event_sql.by_ids(self.pool, [relation.event_id]):
            if row["room_nid"] == room.nid and relation_of(Event.of_row(row).content) is not None:
                raise Unknown("This event relates to another one: a thread cannot start from it")

    async def _annotate(self, room_id: str, draft: Draft, relation: Relation) -> str:
        """Send an annotation that the user has not made yet ("Avoiding duplicate annotations")."""
        room = await self.rooms.get_joined(room_id, draft.sender)
        key = relation.key or ""
        async with self.annotation_locks.hold((draft.sender, relation.event_id, draft.type, key)):
            known = await annotation_sql.find(
                self.pool, relation.event_id, room.nid, draft.type, draft.sender, key
            )
            if known is not None and (known["device_nid"], known["txn_id"]) != (
                draft.device_nid,
                draft.txn_id,
            ):
                raise DuplicateAnnotation("You have annotated this event in the same way already")
            return (await self.rooms.send(room_id, draft)).event_id

    async def redact(
        self, requester: Requester, room_id: str, event_id: str, txn_id: str | None, *, reason: str | None
    ) -> str:
        """`redactEvent`: the redaction's id. Raises Forbidden, NotFound, InvalidParam, UserSuspended."""
        _check_txn_id(txn_id)
        content: JsonObject = {} if reason is None else {"reason": reason}
        transaction = None if txn_id is None else txn_id + TXN_SEPARATOR + event_id
        return await self._redact(requester, room_id, event_id, transaction, content)

    async def _send_redaction(
        self, requester: Requester, room_id: str, txn_id: str | None, content: JsonObject
    ) -> str:
        """A redaction by way of `sendMessage`, which names its target in the content."""
        _check_txn_id(txn_id)
        event_id = content.get("redacts")
        if event_id is None:
            raise MissingParam("A redaction names the event in 'redacts'")
        if not isinstance(event_id, str) or "\0" in event_id:
            raise BadJson("'redacts' must be an event id")
        # The engine puts `redacts` where the room version wants it.
        rest = {key: value for key, value in content.items() if key != "redacts"}
        return await self._redact(requester, room_id, event_id, txn_id, rest)

    async def _redact(
        self, requester: Requester, room_id: str, event_id: str, txn_id: str | None, content: JsonObject
    ) -> str:
        room = await self.rooms.get_joined(room_id, requester.user_id)
        rows = await event_sql.by_ids(self.pool, [event_id])
        if not rows:
            raise NotFound("There is no such event in this room")
        target = Event.of_row(rows[0])
        if target.room_nid != room.nid:
            raise InvalidParam("This event is not one of this room")
        _check_redaction(requester, room, target)
        draft = Draft(
            sender=requester.user_id,
            type=REDACTION,
            content=content,
            redacts=event_id,
            device_nid=requester.device_nid,
            txn_id=txn_id,
        )
        return (await self.rooms.send(room_id, draft)).event_id


def _check_redaction(requester: Requester, room: Room, target: Event) -> None:
    """Raise Forbidden or UserSuspended if the user may not redact this event; the rules see to the rest."""
    if target.type == "m.room.create":
        raise Forbidden("A room's create event cannot be redacted")
    if target.sender == requester.user_id:
        return
    if requester.is_suspended:
        raise UserSuspended("Your account is suspended: you can redact your own events only")
    power_levels = room.power_levels
    if power_levels.for_user(requester.user_id) >= power_levels.redact:
        return
    # "Server administrators may redact events sent by users on their server."
    if not requester.is_admin or not room.is_local(target.sender):
        raise Forbidden("Your power level in this room does not allow you to redact other users' events")


def _check_txn_id(txn_id: str | None) -> None:
    if txn_id is None:
        return
    if not txn_id or exceeds_bytes(txn_id, TXN_ID_BYTES_MAX):
        raise InvalidParam(f"A transaction id has 1 to {TXN_ID_BYTES_MAX} bytes")
