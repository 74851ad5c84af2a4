"""Events that are sent later: MSC4140, as Element Call uses it."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from tests.api.client import PASSWORD, Api, User, refused, timeline_of
from tests.node import Node

JsonObject = dict[str, Any]
SETTINGS = {"limits": {"delayed_event_max_ms": 3_600_000, "delayed_events_per_user": 4}}
DELAY = "org.matrix.msc4140.delay"
DELAYED = "/unstable/org.matrix.msc4140/delayed_events"
CALL_MEMBER = "org.matrix.msc3401.call.member"
HOUR_MS = 3_600_000
SYNC_MS = 20_000


async def delay(user: User, room: str, body: str, delay_ms: int, txn_id: str = "") -> str:
    """The delay id of a text message."""
    answer = await user.put(
        "/v3/rooms/{}/send/{}/{}",
        room,
        "m.room.message",
        txn_id or user.next_txn_id(),
        json={"msgtype": "m.text", "body": body},
        query={DELAY: delay_ms},
    )
    delay_id: str = answer["delay_id"]
    return delay_id


async def delay_state(
    user: User, room: str, content: JsonObject, delay_ms: int, *, type: str = "m.test", key: str = ""
) -> str:
    answer = await user.put(
        "/v3/rooms/{}/state/{}/{}", room, type, key, json=content, query={DELAY: delay_ms}
    )
    delay_id: str = answer["delay_id"]
    return delay_id


async def act(api: Api, delay_id: str, action: str) -> None:
    assert await api.post(f"{DELAYED}/{{}}/{{}}", delay_id, action) == {}


async def seen_until(user: User, room: str, since: str, body: str) -> list[JsonObject]:
    """What comes into the room after a token, up to a message."""
    events: list[JsonObject] = []
    for _ in range(50):
        sync = await user.sync(since, timeout_ms=SYNC_MS)
        since = sync["next_batch"]
        events += timeline_of(sync, room)
        if any(event["content"].get("body") == body for event in events):
            return events
    raise AssertionError(f"{body!r} did not come; what came: {events}")


def bodies(events: list[JsonObject]) -> list[str]:
    return [event["content"]["body"] for event in events if event["type"] == "m.room.message"]


async def scheduled(user: User) -> list[JsonObject]:
    events: list[JsonObject] = (await user.get(DELAYED))["delayed_events"]
    return events


async def nothing_scheduled(user: User) -> None:
    """What was sent is struck off the list a moment after it has come."""
    for _ in range(500):
        if not await scheduled(user):
            return
    raise AssertionError(await scheduled(user))


async def test_messages_come_when_they_are_due_in_order(alice: User) -> None:
    room = await alice.create_room()
    since = (await alice.sync())["next_batch"]
    await delay(alice, room, "third", 600)
    await delay(alice, room, "second", 300)
    await delay(alice, room, "first", 0)
    events = await seen_until(alice, room, since, "third")
    assert bodies(events) == ["first", "second", "third"]
    assert events[2]["origin_server_ts"] - events[1]["origin_server_ts"] >= 200
    await nothing_scheduled(alice)


async def test_what_is_scheduled_is_listed(alice: User, bob: User) -> None:
    room = await alice.create_room()
    later = await delay(alice, room, "later", HOUR_MS)
    sooner = await delay_state(alice, room, {"a": 1}, HOUR_MS // 2, key="k")
    listed = await scheduled(alice)
    assert [event["delay_id"] for event in listed] == [sooner, later]
    assert (
        listed[0].items()
        >= {
            "room_id": room,
            "type": "m.test",
            "state_key": "k",
            "content": {"a": 1},
            "delay": HOUR_MS // 2,
        }.items()
    )
    assert "state_key" not in listed[1]
    assert await alice.get(f"{DELAYED}/{{}}", later) == listed[1]
    assert await scheduled(bob) == []
    with refused(404, "M_NOT_FOUND"):
        await bob.get(f"{DELAYED}/{{}}", later)


async def test_a_cancelled_event_is_never_sent(alice: User, api: Api) -> None:
    room = await alice.create_room()
    since = (await alice.sync())["next_batch"]
    unwanted = await delay(alice, room, "unwanted", 400)
    await act(api, unwanted, "cancel")  # whoever knows the id may, without a token
    await delay(alice, room, "afterwards", 800)
    assert bodies(await seen_until(alice, room, since, "afterwards")) == ["afterwards"]
    for action in ("cancel", "restart", "send"):
        with refused(404, "M_NOT_FOUND"):
            await act(api, unwanted, action)


async def test_an_event_can_be_sent_at_once(alice: User) -> None:
    room = await alice.create_room()
    since = (await alice.sync())["next_batch"]
    delay_id = await delay(alice, room, "now", HOUR_MS)
    await alice.post(f"{DELAYED}/{{}}", delay_id, json={"action": "send"})  # as older clients have it
    assert bodies(await seen_until(alice, room, since, "now")) == ["now"]
    with refused(404, "M_NOT_FOUND"):
        await act(alice, delay_id, "send")


async def test_restarting_puts_an_event_off(alice: User) -> None:
    room = await alice.create_room()
    since = (await alice.sync())["next_batch"]
    kept_off = await delay(alice, room, "kept off", 900)
    started = (await scheduled(alice))[0]["running_since"]
    for number in range(3):
        await delay(alice, room, f"tick {number}", 400)
        await seen_until(alice, room, since, f"tick {number}")
        await act(alice, kept_off, "restart")
    assert (await scheduled(alice))[0]["running_since"] >= started + 1200
    events = await seen_until(alice, room, since, "kept off")
    assert bodies(events) == ["tick 0", "tick 1", "tick 2", "kept off"]


async def test_the_same_transaction_is_scheduled_once(alice: User) -> None:
    room = await alice.create_room()
    first = await delay(alice, room, "once", HOUR_MS, txn_id="same")
    assert await delay(alice, room, "once", HOUR_MS, txn_id="same") == first
    assert len(await scheduled(alice)) == 1


async def test_newer_state_of_somebody_else_cancels(alice: User, bob: User) -> None:
    room = await alice.create_room(power_level_content_override={"state_default": 0})
    await bob.join(room)
    since = (await alice.sync())["next_batch"]
    overtaken = await delay_state(alice, room, {"by": "alice, later"}, 400)
    kept = await delay_state(alice, room, {"by": "alice, later"}, 400, key="own")
    await alice.set_state(room, "m.test", {"by": "alice"}, "own")
    await bob.set_state(room, "m.test", {"by": "bob"})
    assert [event["delay_id"] for event in await scheduled(alice)] == [kept]
    with refused(404, "M_NOT_FOUND"):
        await act(alice, overtaken, "restart")
    await delay(alice, room, "afterwards", 800)
    await seen_until(alice, room, since, "afterwards")
    assert await alice.state(room, "m.test") == {"by": "bob"}
    assert await alice.state(room, "m.test", "own") == {"by": "alice, later"}


async def test_rights_count_as_they_are_when_it_is_sent(alice: User, bob: User) -> None:
    room = await alice.create_room()
    await bob.join(room)
    since = (await alice.sync())["next_batch"]
    await delay(bob, room, "of somebody who was banned", 500)
    at_once = await delay(bob, room, "likewise", HOUR_MS)
    await alice.post("/v3/rooms/{}/ban", room, json={"user_id": bob.user_id})
    with refused(403, "M_FORBIDDEN"):
        await act(bob, at_once, "send")
    await delay(alice, room, "afterwards", 900)
    assert bodies(await seen_until(alice, room, since, "afterwards")) == ["afterwards"]
    assert await scheduled(bob) == []


async def test_who_is_locked_or_suspended_sends_nothing(alice: User, api: Api, admin: User) -> None:
    room = await alice.create_room()
    since = (await alice.sync())["next_batch"]
    for action in ("lock", "suspend"):
        someone = await api.register(action)
        await someone.join(room)
        await delay(someone, room, f"of somebody under {action}", 500)
        await admin.put(f"/v1/admin/{action}/{{}}", someone.user_id, json={f"{action}ed": True})
    await delay(alice, room, "afterwards", 900)
    assert bodies(await seen_until(alice, room, since, "afterwards")) == ["afterwards"]


async def test_scheduled_events_survive_the_death_of_the_node(alice: User, node: Node) -> None:
    room = await alice.create_room()
    since = (await alice.sync())["next_batch"]
    await delay(alice, room, "due meanwhile", 1)
    await delay(alice, room, "due soon", 2500)
    await node.kill()
    await node.start()
    events = await seen_until(alice, room, since, "due soon")
    assert bodies(events) == ["due meanwhile", "due soon"]


async def test_what_was_sent_before_the_node_died_is_not_sent_again(alice: User, database_url: str) -> None:
    room = await alice.create_room()
    since = (await alice.sync())["next_batch"]
    await delay_state(alice, room, {"left": True}, HOUR_MS)
    await delay(alice, room, "once", HOUR_MS)
    waiting = await scheduled(alice)
    connection = await asyncpg.connect(database_url)
    try:
        ids = [event["delay_id"] for event in waiting]
        rows = await connection.fetch("SELECT * FROM delayed_events WHERE delay_id = ANY($1)", ids)
        for delay_id in ids:
            await act(alice, delay_id, "send")
        await alice.set_state(room, "m.test", {"left": False})
        # As if the node had been killed when they were sent, but not deleted yet.
        for row in rows:
            columns = {**dict(row), "send_at_ms": row["started_ms"]}
            names = ", ".join(columns)
            places = ", ".join(f"${number + 1}" for number in range(len(columns)))
            await connection.execute(
                f"INSERT INTO delayed_events ({names}) OVERRIDING SYSTEM VALUE VALUES ({places})",
                *columns.values(),
            )
    finally:
        await connection.close()
    await delay(alice, room, "afterwards", 0)
    events = await seen_until(alice, room, since, "afterwards")
    assert bodies(events) == ["once", "afterwards"]
    assert await alice.state(room, "m.test") == {"left": False}
    await nothing_scheduled(alice)


async def test_what_is_too_far_ahead_is_refused_in_the_form_that_clients_know(alice: User) -> None:
    room = await alice.create_room()
    with refused(400, "M_UNKNOWN") as refusal:
        await delay(alice, room, "too late", HOUR_MS + 1)
    assert refusal.value.json["org.matrix.msc4140.errcode"] == "M_MAX_DELAY_EXCEEDED"
    assert refusal.value.json["org.matrix.msc4140.max_delay"] == HOUR_MS
    capabilities = (await alice.get("/v3/capabilities"))["capabilities"]
    assert capabilities["org.matrix.msc4140.delayed_events"] == {"max_delay_ms": HOUR_MS, "max_scheduled": 4}


async def test_a_user_may_schedule_so_many(alice: User) -> None:
    room = await alice.create_room()
    first, *_ = [await delay(alice, room, f"{number}", HOUR_MS) for number in range(4)]
    with refused(429, "M_LIMIT_EXCEEDED") as refusal:
        await delay(alice, room, "too many", HOUR_MS)
    assert 0 < refusal.value.json["retry_after_ms"] <= HOUR_MS
    await act(alice, first, "cancel")
    await delay(alice, room, "again", HOUR_MS)


@pytest.mark.parametrize("delay_ms", ["-1", "soon", ""])
async def test_a_wrong_delay_is_refused(alice: User, delay_ms: str) -> None:
    room = await alice.create_room()
    path = f"/_matrix/client/v3/rooms/{room}/send/m.room.message/t?{DELAY}={delay_ms}"
    answer = await alice.exchange("PUT", path, body=b'{"body":"x"}')
    assert (answer.status, answer.json["errcode"]) == (400, "M_INVALID_PARAM")
    assert "m.room.message" not in {event["type"] for event in await alice.history(room)}


async def test_wrong_requests_are_refused(alice: User, bob: User, api: Api) -> None:
    room = await alice.create_room()
    for wrong in (room, "!nowhere:veche.test"):
        with refused(403, "M_FORBIDDEN"):
            await delay(bob, wrong, "not in the room", 1)
    with refused(413, "M_TOO_LARGE"):
        await delay(alice, room, "x" * 66_000, 1)
    delay_id = await delay(alice, room, "later", HOUR_MS)
    with refused(400, "M_INVALID_PARAM"):
        await act(alice, delay_id, "forget")
    with refused(400, "M_MISSING_PARAM"):
        await alice.post(f"{DELAYED}/{{}}", delay_id)
    with refused(401, "M_MISSING_TOKEN"):
        await api.get(DELAYED)


async def test_who_ends_the_account_sends_nothing_any_more(alice: User, bob: User) -> None:
    room = await alice.create_room()
    await bob.join(room)
    since = (await alice.sync())["next_batch"]
    await delay(bob, room, "of whoever has gone", 500)
    identifier = {"type": "m.id.user", "user": bob.user_id}
    auth = {"type": "m.login.password", "identifier": identifier, "password": PASSWORD}
    await bob.post("/v3/account/deactivate", json={"auth": auth})
    await delay(alice, room, "afterwards", 900)
    assert bodies(await seen_until(alice, room, since, "afterwards")) == ["afterwards"]


async def test_someone_who_vanishes_from_a_call_leaves_it(alice: User, bob: User) -> None:
    """As Element Call does: the leaving is scheduled first, and put off as long as one is there."""
    room = await alice.create_room(
        power_level_content_override={"events": {CALL_MEMBER: 0, "m.room.name": 50}}
    )
    await bob.join(room)
    since = (await alice.sync())["next_batch"]
    key = f"_{bob.user_id}_{bob.device_id}_m.call"
    leaving = await delay_state(bob, room, {}, 700, type=CALL_MEMBER, key=key)
    joined = {"application": "m.call", "call_id": "", "device_id": bob.device_id, "expires": 14_400_000}
    await bob.set_state(room, CALL_MEMBER, joined, key)
    await act(bob, leaving, "restart")
    assert await alice.state(room, CALL_MEMBER, key) == joined
    await delay(alice, room, "afterwards", 1500)
    await seen_until(alice, room, since, "afterwards")
    assert await alice.state(room, CALL_MEMBER, key) == {}
    with refused(403, "M_FORBIDDEN"):  # a key that is a user id stays that user's alone
        await bob.set_state(room, CALL_MEMBER, joined, alice.user_id)
    with refused(403, "M_FORBIDDEN"):
        await bob.set_state(room, "m.room.name", {"name": "no"})
