"""What relates to an event: bundled, page by page, and as threads."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from homeserver.errors import Forbidden, InvalidParam, NotFound
from homeserver.requester import Requester
from homeserver.rooms.event import Event
from homeserver.rooms.room import Room
from tests.rooms.conftest import Engine
from tests.rooms.past import Past, logged, watched

NEW = {"m.new_content": {"msgtype": "m.text", "body": "new"}}


def ids(page: Any) -> list[str]:
    return [event["event_id"] for event in page["chunk"]]


class TestEdits:
    async def test_the_newest_by_time_then_id_counts(self, engine: Engine, alice: Requester) -> None:
        past = Past.over(engine)
        room = await past.room(alice)
        original = await past.say(room, alice)
        edits = [
            await past.send(
                room,
                alice,
                "m.room.message",
                {
                    "body": "*",
                    "msgtype": "m.text",
                    "n": number,
                    **NEW,
                    "m.relates_to": {"rel_type": "m.replace", "event_id": original.event_id},
                },
                origin_server_ts=ts,
            )
            for number, ts in enumerate((5_000, 9_000, 9_000, 9_000, 7_000))
        ]
        newest = max(edits, key=lambda edit: (edit.origin_server_ts, edit.event_id))
        bundle = await past.bundle(alice, room, original)
        assert bundle["m.replace"]["event_id"] == newest.event_id
        assert bundle["m.replace"]["content"]["m.new_content"] == NEW["m.new_content"]
        assert bundle["m.replace"]["room_id"] == room.room_id
        await past.redact(room, alice, newest)
        edits.remove(newest)
        newest = max(edits, key=lambda edit: (edit.origin_server_ts, edit.event_id))
        assert (await past.bundle(alice, room, original))["m.replace"]["event_id"] == newest.event_id

    async def test_only_valid_ones_count(self, engine: Engine, alice: Requester, bob: Requester) -> None:
        past = Past.over(engine)
        room = await past.room(alice, bob)
        original = await past.say(room, alice)
        to_original = {"m.relates_to": {"rel_type": "m.replace", "event_id": original.event_id}}
        await past.relate(room, bob, "m.replace", original, **NEW)  # another sender
        await past.send(room, alice, "m.sticker", {**NEW, **to_original})  # another type
        await past.relate(room, alice, "m.replace", original)  # nothing new
        await past.relate(room, alice, "m.replace", original, nested=NEW)  # nor here
        await past.put(room, alice, "m.room.message", {**NEW, **to_original}, "key")  # state
        assert await past.bundle(alice, room, original) is None
        edit = await past.relate(room, alice, "m.replace", original, **NEW)
        await past.relate(room, alice, "m.replace", edit, **NEW)  # of an edit
        assert (await past.bundle(alice, room, original))["m.replace"]["event_id"] == edit.event_id
        assert await past.bundle(alice, room, edit) is None

    async def test_state_is_not_edited(self, engine: Engine, alice: Requester) -> None:
        past = Past.over(engine)
        room = await past.room(alice)
        topic = await past.put(room, alice, "m.room.topic", {"topic": "one"})
        to_topic = {"m.relates_to": {"rel_type": "m.replace", "event_id": topic.event_id}}
        await past.send(room, alice, "m.room.topic", {**NEW, **to_topic})
        assert await past.bundle(alice, room, topic) is None

    async def test_a_redacted_original_has_none(self, engine: Engine, alice: Requester) -> None:
        past = Past.over(engine)
        room = await past.room(alice)
        original = await past.say(room, alice)
        await past.relate(room, alice, "m.replace", original, **NEW)
        reference = await past.relate(room, alice, "m.reference", original)
        await past.redact(room, alice, original)
        assert await past.bundle(alice, room, original) == {
            "m.reference": {"chunk": [{"event_id": reference.event_id}]}
        }

    async def test_encrypted_ones_are_taken_on_trust(self, engine: Engine, alice: Requester) -> None:
        past = Past.over(engine)
        room = await past.room(alice)
        original = await past.send(room, alice, "m.room.encrypted", {"ciphertext": "a"})
        to_original = {"m.relates_to": {"rel_type": "m.replace", "event_id": original.event_id}}
        edit = await past.send(room, alice, "m.room.encrypted", {"ciphertext": "b", **to_original})
        assert (await past.bundle(alice, room, original))["m.replace"]["event_id"] == edit.event_id


class TestBundles:
    async def test_threads_count_and_show_the_newest_with_its_edit(
        self, engine: Engine, alice: Requester, bob: Requester
    ) -> None:
        past = Past.over(engine)
        carol = await engine.user("carol")
        room = await past.room(alice, bob, carol)
        root = await past.say(room, alice)
        await past.relate(room, bob, "m.thread", root)
        newest = await past.relate(room, bob, "m.thread", root)
        edit = await past.relate(room, bob, "m.replace", newest, **NEW)
        for user, participated in ((alice, True), (bob, True), (carol, False)):
            thread = (await past.bundle(user, room, root))["m.thread"]
            assert thread["count"] == 2
            assert thread["current_user_participated"] is participated
            latest = thread["latest_event"]
            assert latest["event_id"] == newest.event_id
            assert latest["unsigned"]["m.relations"]["m.replace"]["event_id"] == edit.event_id
        assert await past.bundle(alice, room, root, {bob.user_id}) is None
        # what relates to something itself starts no thread
        await past.relate(room, alice, "m.thread", newest)
        assert "m.thread" not in (await past.bundle(alice, room, newest))

    async def test_ignored_users_do_not_count(self, engine: Engine, alice: Requester, bob: Requester) -> None:
        past = Past.over(engine)
        room = await past.room(alice, bob)
        root = await past.say(room, alice)
        own = await past.relate(room, alice, "m.thread", root)
        await past.relate(room, bob, "m.thread", root)
        thread = (await past.bundle(alice, room, root, {bob.user_id}))["m.thread"]
        assert (thread["count"], thread["latest_event"]["event_id"]) == (1, own.event_id)

    async def test_references_are_named_in_order_and_annotations_are_not(
        self, engine: Engine, alice: Requester
    ) -> None:
        past = Past.over(engine)
        room = await past.room(alice)
        event = await past.say(room, alice)
        references = [await past.relate(room, alice, "m.reference", event) for _ in range(3)]
        await past.relate(room, alice, "m.annotation", event)
        assert await past.bundle(alice, room, event) == {
            "m.reference": {"chunk": [{"event_id": each.event_id} for each in references]}
        }

    async def test_relations_from_another_room_do_not_count(self, engine: Engine, alice: Requester) -> None:
        past = Past.over(engine)
        room, other = await past.room(alice), await past.room(alice)
        event = await past.say(room, alice)
        await past.relate(other, alice, "m.thread", event)
        assert await past.bundle(alice, room, event) is None
        assert ids(await past.related(alice, room, event)) == []

    async def test_who_left_sees_what_was_there_then(
        self, engine: Engine, alice: Requester, bob: Requester
    ) -> None:
        past = Past.over(engine)
        room = await past.room(alice, bob)
        root = await past.say(room, alice)
        first = await past.relate(room, alice, "m.thread", root)
        edit = await past.relate(room, alice, "m.replace", root, **NEW)
        await past.member(room, bob, "leave")
        await past.relate(room, alice, "m.thread", root)
        await past.relate(room, alice, "m.replace", root, **NEW)
        await past.relate(room, alice, "m.reference", root)
        bundle = await past.bundle(bob, room, root)
        assert bundle["m.thread"]["count"] == 1
        assert bundle["m.thread"]["latest_event"]["event_id"] == first.event_id
        assert bundle["m.replace"]["event_id"] == edit.event_id
        assert "m.reference" not in bundle
        assert ids(await past.related(bob, room, root)) == [edit.event_id, first.event_id]

    async def test_the_number_of_queries_does_not_depend_on_that_of_events(
        self, engine: Engine, alice: Requester
    ) -> None:
        past = Past.over(engine)
        room = await past.room(alice)
        for _ in range(10):
            event = await past.say(room, alice)
            for rel_type in ("m.thread", "m.replace", "m.reference"):
                await past.relate(room, alice, rel_type, event, **NEW)
        events = await past.events(room)
        async with watched(engine) as (watching, queries):
            bundles = await watching.relations.bundles(room, alice, events)
            await logged()
        assert len(bundles) == 10
        assert len(queries) == 4


class TestPages:
    async def test_they_lead_through_all_in_both_directions(self, engine: Engine, alice: Requester) -> None:
        past = Past.over(engine)
        room = await past.room(alice)
        event = await past.say(room, alice)
        related = [(await past.relate(room, alice, "m.reference", event)).event_id for _ in range(5)]
        for backwards, expected in ((False, related), (True, related[::-1])):
            found: list[str] = []
            start = None
            for pages in range(3):
                page = await past.related(alice, room, event, backwards=backwards, start=start, limit=2)
                found += ids(page)
                assert page.get("prev_batch") == start
                start = page.get("next_batch")
                assert (start is None) == (pages == 2)
            assert found == expected

    async def test_between_tokens_of_other_endpoints(self, engine: Engine, alice: Requester) -> None:
        past = Past.over(engine)
        room = await past.room(alice)
        event = await past.say(room, alice)
        related = [await past.relate(room, alice, "m.reference", event) for _ in range(5)]
        page = await past.related(
            alice, room, event, start=f"s{related[3].nid}_0", to=f"t{related[0].depth}_{related[0].nid}"
        )
        assert ids(page) == [each.event_id for each in related[3:0:-1]]
        page = await past.related(
            alice, room, event, start=f"s{related[3].nid}_0", to=f"s{related[4].nid}", backwards=False
        )
        assert ids(page) == [related[4].event_id]
        with pytest.raises(InvalidParam):
            await past.related(alice, room, event, start="r5")

    async def test_by_kind_and_type(self, engine: Engine, alice: Requester) -> None:
        past = Past.over(engine)
        room = await past.room(alice)
        event = await past.say(room, alice)
        to_event = {"m.relates_to": {"rel_type": "m.reference", "event_id": event.event_id}}
        message = await past.relate(room, alice, "m.reference", event)
        other = await past.send(room, alice, "org.example", to_event)
        thread = await past.relate(room, alice, "m.thread", event)
        for query, expected in (
            ({}, [thread, other, message]),
            ({"rel_type": "m.reference"}, [other, message]),
            ({"rel_type": "m.reference", "event_type": "org.example"}, [other]),
            ({"rel_type": "m.replace"}, []),
        ):
            page = await past.related(alice, room, event, **query)
            assert ids(page) == [each.event_id for each in expected]
            assert "recursion_depth" not in page

    async def test_recursion_goes_three_levels_deep_by_matching_relations(
        self, engine: Engine, alice: Requester
    ) -> None:
        past = Past.over(engine)
        room = await past.room(alice)
        event = await past.say(room, alice)
        levels: list[Event] = [event]
        for _ in range(4):
            levels.append(await past.relate(room, alice, "m.reference", levels[-1]))
        thread = await past.relate(room, alice, "m.thread", event)
        below = await past.relate(room, alice, "m.reference", thread)
        page = await past.related(alice, room, event, recurse=True)
        assert ids(page) == [each.event_id for each in (below, thread, *levels[3:0:-1])]
        assert page["recursion_depth"] == 3
        page = await past.related(alice, room, event, recurse=True, rel_type="m.reference")
        assert ids(page) == [each.event_id for each in levels[3:0:-1]]
        page = await past.related(alice, room, event, recurse=False)
        assert (ids(page), page["recursion_depth"]) == ([thread.event_id, levels[1].event_id], 1)

    async def test_what_may_not_be_seen_is_left_out(
        self, engine: Engine, alice: Requester, bob: Requester
    ) -> None:
        past = Past.over(engine)
        room = await past.room(alice, visibility="joined")
        hidden_root = await past.say(room, alice)
        await past.member(room, bob, "join")
        root = await past.say(room, alice)
        await past.member(room, bob, "leave")
        gap = await past.relate(room, alice, "m.thread", root)
        await past.member(room, bob, "join")
        shown = await past.relate(room, alice, "m.thread", root)
        assert ids(await past.related(bob, room, root)) == [shown.event_id]
        assert ids(await past.related(alice, room, root)) == [shown.event_id, gap.event_id]
        with pytest.raises(NotFound):
            await past.related(bob, room, hidden_root)
        stranger = await engine.user("stranger")
        with pytest.raises(NotFound):
            await past.related(stranger, room, root)


class TestThreads:
    async def page(self, past: Past, user: Requester, room: Room, **query: Any) -> Any:
        query = {"participated": False, "limit": 20, "start": None, **query}
        return orjson.loads(await past.threads.page(user, room.room_id, **query))

    async def test_those_with_the_newest_answers_come_first(self, engine: Engine, alice: Requester) -> None:
        past = Past.over(engine)
        room = await past.room(alice)
        roots = [await past.say(room, alice) for _ in range(5)]
        for number in (0, 1, 2, 3, 4, 1, 3, 1, 0):
            await past.relate(room, alice, "m.thread", roots[number])
        expected = [roots[number].event_id for number in (0, 1, 3, 4, 2)]
        assert ids(await self.page(past, alice, room)) == expected
        found: list[str] = []
        start = None
        while True:
            page = await self.page(past, alice, room, limit=2, start=start)
            found += ids(page)
            start = page.get("next_batch")
            if start is None:
                break
        assert found == expected
        assert page["chunk"][0]["unsigned"]["m.relations"]["m.thread"]["count"] == 1

    async def test_only_those_with_the_user(self, engine: Engine, alice: Requester, bob: Requester) -> None:
        past = Past.over(engine)
        room = await past.room(alice, bob)
        of_alice, of_bob, answered = (
            await past.say(room, alice),
            await past.say(room, bob),
            await past.say(room, alice),
        )
        for root in (of_alice, of_bob, answered):
            await past.relate(room, alice, "m.thread", root)
        await past.relate(room, bob, "m.thread", answered)
        page = await self.page(past, bob, room, participated=True, limit=1)
        assert ids(page) == [answered.event_id]
        page = await self.page(past, bob, room, participated=True, limit=5, start=page["next_batch"])
        assert ids(page) == [of_bob.event_id]
        assert "next_batch" not in page

    async def test_roots_of_ignored_users_are_shown_redacted(
        self, engine: Engine, alice: Requester, bob: Requester
    ) -> None:
        past = Past.over(engine)
        room = await past.room(alice, bob)
        root = await past.say(room, bob, "unheard")
        own = await past.relate(room, alice, "m.thread", root)
        await past.relate(room, bob, "m.thread", root)
        ignored = {"ignored_users": {bob.user_id: {}}}
        await engine.account_data.put(alice, "m.ignored_user_list", ignored)
        [shown] = (await self.page(past, alice, room))["chunk"]
        assert (shown["event_id"], shown["content"]) == (root.event_id, {})
        assert shown["unsigned"]["m.relations"]["m.thread"]["latest_event"]["event_id"] == own.event_id

    async def test_they_end_where_the_user_left(
        self, engine: Engine, alice: Requester, bob: Requester
    ) -> None:
        past = Past.over(engine)
        room = await past.room(alice, bob)
        first, second = await past.say(room, alice), await past.say(room, alice)
        await past.relate(room, alice, "m.thread", first)
        await past.relate(room, alice, "m.thread", second)
        await past.member(room, bob, "leave")
        await past.relate(room, alice, "m.thread", first)
        later = await past.say(room, alice)
        await past.relate(room, alice, "m.thread", later)
        assert ids(await self.page(past, bob, room)) == [second.event_id, first.event_id]
        with pytest.raises(Forbidden):
            await self.page(past, await engine.user("stranger"), room)

    async def test_unknown_roots_and_tokens(self, engine: Engine, alice: Requester) -> None:
        past = Past.over(engine)
        room, other = await past.room(alice), await past.room(alice)
        elsewhere = await past.say(other, alice)
        root = await past.say(room, alice)
        await past.relate(room, alice, "m.thread", root)
        await past.relate(room, alice, "m.thread", elsewhere)
        assert ids(await self.page(past, alice, room, limit=1)) == [root.event_id]
        with pytest.raises(InvalidParam):
            await self.page(past, alice, room, start="s1")
