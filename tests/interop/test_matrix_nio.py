"""A chat of two clients built on matrix-nio, all of it seen by sync."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import nio
from nio.api import RelationshipType

from tests.api.client import PASSWORD

SYNCS_MAX = 20
SYNC_TIMEOUT_MS = 3000
Expected = TypeVar("Expected")


def expect(kind: type[Expected], response: object) -> Expected:
    """The response, if it is a success."""
    assert isinstance(response, kind), repr(response)
    return response


class Chatter:
    """A nio client that remembers, in order, every event that its syncs brought."""

    def __init__(self, url: str, localpart: str) -> None:
        self.nio = nio.AsyncClient(url, localpart, config=nio.AsyncClientConfig(encryption_enabled=False))
        self.events: list[tuple[str, nio.Event]] = []
        self.nio.add_event_callback(self._see, nio.Event)

    async def _see(self, room: nio.MatrixRoom, event: nio.Event) -> None:
        self.events.append((room.room_id, event))

    async def sync_until(self, reached: Callable[[], Any]) -> None:
        """Sync until ``reached()`` is true; nio keeps the position itself."""
        for _ in range(SYNCS_MAX):
            if reached():
                return
            expect(nio.SyncResponse, await self.nio.sync(timeout=SYNC_TIMEOUT_MS))
        raise AssertionError(f"not seen in {SYNCS_MAX} syncs; seen: {[event for _, event in self.events]}")

    async def wait_for(self, event_id: str) -> nio.Event:
        """The event with this ID, as sync brings it."""
        await self.sync_until(lambda: any(event.event_id == event_id for _, event in self.events))
        return next(event for _, event in self.events if event.event_id == event_id)

    async def send(self, room_id: str, content: dict[str, Any], type: str = "m.room.message") -> str:
        return expect(nio.RoomSendResponse, await self.nio.room_send(room_id, type, content)).event_id


@asynccontextmanager
async def registered(url: str, localpart: str) -> AsyncIterator[Chatter]:
    """A new account, logged in on a second device."""
    first = nio.AsyncClient(url, localpart)
    expect(nio.RegisterResponse, await first.register(localpart, PASSWORD))
    expect(nio.LogoutResponse, await first.logout())
    await first.close()
    chatter = Chatter(url, localpart)
    expect(nio.LoginResponse, await chatter.nio.login(PASSWORD, device_name="nio"))
    try:
        yield chatter
    finally:
        await chatter.nio.close()


def text(body: str, **relation: object) -> dict[str, Any]:
    content: dict[str, Any] = {"msgtype": "m.text", "body": body}
    return content | ({"m.relates_to": relation} if relation else {})


async def test_two_clients_chat_and_see_everything_by_sync(proxy_url: str) -> None:
    async with registered(proxy_url, "nio-alice") as alice, registered(proxy_url, "nio-bob") as bob:
        room_id = await _meet(alice, bob)
        await _chat(alice, bob, room_id)
        await _page_back(bob, room_id)


async def _meet(alice: Chatter, bob: Chatter) -> str:
    created = await alice.nio.room_create(name="Plans", topic="What to do")
    room_id = expect(nio.RoomCreateResponse, created).room_id
    expect(nio.RoomInviteResponse, await alice.nio.room_invite(room_id, bob.nio.user_id))
    await bob.sync_until(lambda: room_id in bob.nio.invited_rooms)
    assert bob.nio.invited_rooms[room_id].inviter == alice.nio.user_id
    expect(nio.JoinResponse, await bob.nio.join(room_id))
    await bob.sync_until(lambda: room_id in bob.nio.rooms)
    await alice.sync_until(lambda: bob.nio.user_id in getattr(alice.nio.rooms.get(room_id), "users", {}))
    room = bob.nio.rooms[room_id]
    assert (room.name, room.topic) == ("Plans", "What to do")
    assert set(room.users) == {alice.nio.user_id, bob.nio.user_id}
    return room_id


async def _chat(alice: Chatter, bob: Chatter, room_id: str) -> None:
    question = await alice.send(room_id, text("Lunch?"))
    seen = await bob.wait_for(question)
    assert isinstance(seen, nio.RoomMessageText)
    assert (seen.body, seen.sender) == ("Lunch?", alice.nio.user_id)

    replacement = {"m.new_content": text("Lunch at noon?")}
    edit = await alice.send(
        room_id, text("* Lunch at noon?", rel_type="m.replace", event_id=question) | replacement
    )
    assert (await bob.wait_for(edit)).source["content"]["m.new_content"]["body"] == "Lunch at noon?"

    annotation = {"m.relates_to": {"rel_type": "m.annotation", "event_id": question, "key": "👍"}}
    reaction = await alice.wait_for(await bob.send(room_id, annotation, "m.reaction"))
    assert isinstance(reaction, nio.ReactionEvent)
    assert (reaction.key, reaction.reacts_to) == ("👍", question)

    in_thread = await bob.send(room_id, text("Which place?", rel_type="m.thread", event_id=question))
    await alice.wait_for(in_thread)
    answer = await alice.send(
        room_id,
        text(
            "The one at the corner",
            rel_type="m.thread",
            event_id=question,
            **{"m.in_reply_to": {"event_id": in_thread}},
        ),
    )
    await bob.wait_for(answer)
    relations = bob.nio.room_get_event_relations(room_id, question, RelationshipType.thread)
    assert {event.event_id async for event in relations} == {in_thread, answer}

    mistake = await bob.send(room_id, text("Not for you"))
    await alice.wait_for(mistake)
    redaction = await bob.nio.room_redact(room_id, mistake, reason="sent to the wrong room")
    redacted = await alice.wait_for(expect(nio.RoomRedactResponse, redaction).event_id)
    assert isinstance(redacted, nio.RedactionEvent)
    assert (redacted.redacts, redacted.reason) == (mistake, "sent to the wrong room")
    event = expect(nio.RoomGetEventResponse, await alice.nio.room_get_event(room_id, mistake)).event
    assert isinstance(event, nio.RedactedEvent)


async def _page_back(bob: Chatter, room_id: str) -> None:
    expect(nio.SyncResponse, await bob.nio.sync(timeout=0))
    start, paged = bob.nio.next_batch, []
    while start is not None:
        page = expect(nio.RoomMessagesResponse, await bob.nio.room_messages(room_id, start, limit=4))
        paged += page.chunk
        start = page.end
    ids = [event.event_id for event in paged]
    assert len(ids) == len(set(ids))
    assert {event.event_id for room, event in bob.events if room == room_id} <= set(ids)
    assert paged[-1].source["type"] == "m.room.create"
    times = [event.server_timestamp for event in paged]
    assert times == sorted(times, reverse=True)
