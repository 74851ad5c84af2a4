"""Account data, tags, filters and push rules over a real database."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from homeserver.accounts.account_data import new_entry
from homeserver.errors import InvalidParam, NotFound, ServerControlled, TooLarge
from homeserver.filters import NO_FILTER
from homeserver.push_rules import PushContext, PushEvent, put_rule
from homeserver.storage.account_data import AccountDataChange, AccountDataConflict
from tests.engine.conftest import Engine


async def test_an_entry_is_read_back_and_is_in_the_tail_as_its_event(engine: Engine) -> None:
    alice = await engine.new_user()
    position = engine.log.position
    await engine.account_data.put(alice, "com.example.a", {"colour": "green"})
    assert await engine.account_data.get(alice, "com.example.a") == b'{"colour":"green"}'
    (change,) = engine.log.tail.of_user(alice.user_id, position)
    assert isinstance(change, AccountDataChange)
    assert orjson.loads(change.event) == {"type": "com.example.a", "content": {"colour": "green"}}


async def test_since_tells_entries_of_account_and_rooms_apart(engine: Engine) -> None:
    alice = await engine.new_user()
    room = await engine.new_room(alice)
    await engine.account_data.put(alice, "com.example.a", {"n": 1})
    position = engine.log.position
    await engine.account_data.put(alice, "com.example.a", {"n": 2})
    await engine.account_data.put(alice, "com.example.b", {"n": 3}, room_id=room.room_id)
    found = await engine.account_data.since(alice.user_id, alice.user_nid, position)
    assert [orjson.loads(event)["content"] for event in found.account] == [{"n": 2}]
    assert [orjson.loads(event)["type"] for event in found.rooms[room.nid]] == ["com.example.b"]


async def test_many_who_ask_at_once_are_told_each_their_own_in_order(engine: Engine) -> None:
    users = [await engine.new_user() for _ in range(20)]
    starts: list[int] = []
    for number, user in enumerate(users):
        await engine.account_data.put(user, "com.example.a", {"n": -1})
        starts.append(engine.log.position)
        for step in range(number % 3):
            await engine.account_data.put(user, f"com.example.{9 - step}", {"n": number, "step": step})
    found = await asyncio.gather(
        *(
            engine.account_data.since(user.user_id, user.user_nid, start)
            for user, start in zip(users, starts, strict=True)
        )
    )
    for number, events in enumerate(found):
        contents = [orjson.loads(event)["content"] for event in events.account]
        assert contents == [{"n": number, "step": step} for step in range(number % 3)]


async def test_everything_includes_the_default_push_rules_once(engine: Engine) -> None:
    alice = await engine.new_user()
    for _ in range(2):
        found = await engine.account_data.all(alice.user_id, alice.user_nid)
        events = [orjson.loads(event) for event in found.account]
        assert [event["type"] for event in events].count("m.push_rules") == 1
        assert alice.user_id in str(events[-1])
        await engine.push_rules.edit(
            alice, lambda rules: put_rule(rules, "content", "tea", {"actions": ["notify"], "pattern": "tea"})
        )


@pytest.mark.parametrize("event_type", ["m.fully_read", "m.push_rules"])
async def test_what_the_server_manages_cannot_be_put(engine: Engine, event_type: str) -> None:
    alice = await engine.new_user()
    room = await engine.new_room(alice)
    for room_id in (None, room.room_id):
        with pytest.raises(ServerControlled):
            await engine.account_data.put(alice, event_type, {}, room_id=room_id)


async def test_entries_and_their_types_are_bounded(engine: Engine) -> None:
    alice = await engine.new_user()
    with pytest.raises(TooLarge):
        await engine.account_data.put(alice, "com.example.a", {"text": "x" * 300_000})
    with pytest.raises(InvalidParam):
        await engine.account_data.put(alice, "x" * 256, {})


async def test_a_room_must_be_one_that_the_node_knows(engine: Engine) -> None:
    alice = await engine.new_user()
    with pytest.raises(InvalidParam):
        await engine.account_data.put(alice, "com.example.a", {}, room_id="@alice:example.com")
    with pytest.raises(NotFound):
        await engine.account_data.put(alice, "com.example.a", {}, room_id="!unknown:example.com")


async def test_an_entry_that_changed_meanwhile_is_not_replaced(engine: Engine) -> None:
    alice = await engine.new_user()
    position = await engine.log.commit(new_entry(alice, 0, "com.example.a", b"{}", replaces=0))
    await engine.log.commit(new_entry(alice, 0, "com.example.a", b'{"n":1}', replaces=position))
    with pytest.raises(AccountDataConflict):
        await engine.log.commit(new_entry(alice, 0, "com.example.a", b'{"n":2}', replaces=position))
    assert await engine.account_data.get(alice, "com.example.a") == b'{"n":1}'


async def test_of_two_replacements_in_one_batch_one_is_refused(engine: Engine) -> None:
    alice = await engine.new_user()
    changes = [new_entry(alice, 0, "com.example.a", b'{"n":%d}' % n, replaces=0) for n in (1, 2)]
    results = await asyncio.gather(*(engine.log.commit(change) for change in changes), return_exceptions=True)
    assert sum(isinstance(result, AccountDataConflict) for result in results) == 1


async def test_ignored_users_follow_every_change(engine: Engine) -> None:
    alice = await engine.new_user()
    assert await engine.account_data.ignored(alice.user_id) == frozenset()
    content = {"ignored_users": {"@bob:example.com": {}}}
    await engine.account_data.put(alice, "m.ignored_user_list", content)
    assert await engine.account_data.ignored(alice.user_id) == {"@bob:example.com"}
    await engine.account_data.put(alice, "m.ignored_user_list", {"ignored_users": "nonsense"})
    assert await engine.account_data.ignored(alice.user_id) == frozenset()


async def test_tags_are_added_and_removed_one_by_one_even_at_the_same_time(engine: Engine) -> None:
    alice = await engine.new_user()
    room_id = (await engine.new_room(alice)).room_id
    await asyncio.gather(*(engine.tags.put(alice, room_id, f"u.{n}", {"order": 0.5}) for n in range(20)))
    assert await engine.tags.get(alice, room_id) == {f"u.{n}": {"order": 0.5} for n in range(20)}
    await asyncio.gather(*(engine.tags.delete(alice, room_id, f"u.{n}") for n in range(1, 20)))
    assert await engine.tags.get(alice, room_id) == {"u.0": {"order": 0.5}}


async def test_the_same_filter_has_the_same_id(engine: Engine) -> None:
    alice, bob = await engine.new_user(), await engine.new_user("bob")
    first = await engine.filters.define(alice, {"room": {"timeline": {"limit": 3}}, "event_format": "client"})
    again = await engine.filters.define(alice, {"event_format": "client", "room": {"timeline": {"limit": 3}}})
    other = await engine.filters.define(alice, {"room": {"timeline": {"limit": 4}}})
    assert first == again != other
    assert (await engine.filters.resolve(alice.user_nid, first)).room.timeline.events.limit == 3
    with pytest.raises(InvalidParam):
        await engine.filters.resolve(bob.user_nid, first)


async def test_many_filters_at_once_get_ids_of_their_own(engine: Engine) -> None:
    alice = await engine.new_user()
    ids = await asyncio.gather(
        *(engine.filters.define(alice, {"room": {"timeline": {"limit": n}}}) for n in range(1, 4))
    )
    assert len(set(ids)) == 3


async def test_a_sync_filter_may_be_inline_or_missing(engine: Engine) -> None:
    alice = await engine.new_user()
    assert await engine.filters.resolve(alice.user_nid, None) is NO_FILTER
    inline = await engine.filters.resolve(alice.user_nid, '{"room":{"include_leave":true}}')
    assert inline.room.include_leave
    for wrong in ("{", "-1", "99999999999", "x"):
        with pytest.raises(InvalidParam):
            await engine.filters.resolve(alice.user_nid, wrong)


async def test_a_changed_push_rule_reaches_the_compiled_rules(engine: Engine) -> None:
    alice = await engine.new_user()
    event = PushEvent(
        type="m.room.message", sender="@bob:a", state_key=None, room_id="!r:a", content={"body": "tea?"}
    )
    before = (await engine.push_rules.evaluators([alice.user_id]))[alice.user_id]
    assert not before.evaluate(event, PushContext(member_count=7)).highlight
    rule = {"pattern": "tea", "actions": ["notify", {"set_tweak": "highlight"}]}
    await engine.push_rules.edit(alice, lambda rules: put_rule(rules, "content", "tea", rule))
    assert engine.push_rules.cached(alice.user_id) is None
    after = (await engine.push_rules.evaluators([alice.user_id]))[alice.user_id]
    assert after.evaluate(event, PushContext(member_count=7)).highlight
    assert b'"rule_id":"tea"' in await engine.account_data.get(alice, "m.push_rules")


async def test_many_push_rules_at_once_are_all_kept(engine: Engine) -> None:
    alice = await engine.new_user()

    async def add(name: str) -> None:
        body = {"pattern": name, "actions": ["notify"]}
        await engine.push_rules.edit(alice, lambda rules: put_rule(rules, "content", name, body))

    await asyncio.gather(*(add(f"word{n}") for n in range(10)))
    rule_set = await engine.push_rules.rule_set(alice.user_id)
    assert len(rule_set.to_api(alice.user_id)["global"]["content"]) == 10
