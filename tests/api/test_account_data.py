"""Account data, tags, filters, push rules: what users keep on the node."""

from __future__ import annotations

import pytest

from tests.api.client import JsonObject, User, refused

ACCOUNT_DATA = "/v3/user/{}/account_data/{}"
ROOM_ACCOUNT_DATA = "/v3/user/{}/rooms/{}/account_data/{}"
TAGS = "/v3/user/{}/rooms/{}/tags"
RULE = "/v3/pushrules/global/{}/{}"


def by_type(events: list[JsonObject]) -> dict[str, JsonObject]:
    return {event["type"]: event["content"] for event in events}


class TestAccountData:
    async def test_it_is_kept_and_seen_by_sync(self, alice: User) -> None:
        room = await alice.create_room()
        since = (await alice.sync())["next_batch"]
        await alice.put(ACCOUNT_DATA, alice.user_id, "com.example.a", json={"one": 1})
        await alice.put(ROOM_ACCOUNT_DATA, alice.user_id, room, "com.example.b", json={"two": 2.5})
        assert await alice.get(ACCOUNT_DATA, alice.user_id, "com.example.a") == {"one": 1}
        assert await alice.get(ROOM_ACCOUNT_DATA, alice.user_id, room, "com.example.b") == {"two": 2.5}
        sync = await alice.sync(since, timeout_ms=2000)
        assert by_type(sync["account_data"]["events"]) == {"com.example.a": {"one": 1}}
        joined = sync["rooms"]["join"][room]
        assert by_type(joined["account_data"]["events"]) == {"com.example.b": {"two": 2.5}}

    async def test_it_is_private(self, alice: User, bob: User) -> None:
        await alice.put(ACCOUNT_DATA, alice.user_id, "com.example.a", json={})
        with refused(403, "M_FORBIDDEN"):
            await bob.get(ACCOUNT_DATA, alice.user_id, "com.example.a")
        with refused(403, "M_FORBIDDEN"):
            await bob.put(ACCOUNT_DATA, alice.user_id, "com.example.a", json={})
        with refused(404, "M_NOT_FOUND"):
            await alice.get(ACCOUNT_DATA, alice.user_id, "com.example.unset")

    @pytest.mark.parametrize("kind", ["m.fully_read", "m.push_rules"])
    async def test_some_types_only_the_server_writes(self, alice: User, kind: str) -> None:
        room = await alice.create_room()
        with refused(405, "M_BAD_JSON"):
            await alice.put(ROOM_ACCOUNT_DATA, alice.user_id, room, kind, json={})


class TestTags:
    async def test_they_are_set_listed_and_removed(self, alice: User) -> None:
        room = await alice.create_room()
        await alice.put(f"{TAGS}/{{}}", alice.user_id, room, "m.favourite", json={"order": 0.25})
        await alice.put(f"{TAGS}/{{}}", alice.user_id, room, "u.work", json={})
        both = {"m.favourite": {"order": 0.25}, "u.work": {}}
        assert await alice.get(TAGS, alice.user_id, room) == {"tags": both}
        joined = (await alice.sync())["rooms"]["join"][room]
        assert by_type(joined["account_data"]["events"])["m.tag"] == {"tags": both}
        await alice.delete(f"{TAGS}/{{}}", alice.user_id, room, "u.work")
        assert await alice.get(TAGS, alice.user_id, room) == {"tags": {"m.favourite": {"order": 0.25}}}

    async def test_they_are_ones_own(self, alice: User, bob: User) -> None:
        room = await alice.create_room()
        with refused(403, "M_FORBIDDEN"):
            await bob.get(TAGS, alice.user_id, room)
        with refused(400, "M_BAD_JSON"):
            await alice.put(f"{TAGS}/{{}}", alice.user_id, room, "u.work", json={"order": "first"})


class TestFilters:
    async def test_a_filter_comes_back_as_it_was_given(self, alice: User, bob: User) -> None:
        definition = {
            "room": {"timeline": {"limit": 3, "not_types": ["m.room.message"]}},
            "event_format": "client",
        }
        answer = await alice.post("/v3/user/{}/filter", alice.user_id, json=definition)
        path = "/v3/user/{}/filter/{}"
        assert await alice.get(path, alice.user_id, answer["filter_id"]) == definition
        with refused(403, "M_FORBIDDEN"):
            await bob.get(path, alice.user_id, answer["filter_id"])
        with refused(404, "M_NOT_FOUND"):
            await alice.get(path, alice.user_id, "999999")

    async def test_its_identifier_works_in_sync(self, alice: User) -> None:
        room = await alice.create_room()
        definition = {"room": {"timeline": {"types": ["m.room.name"], "limit": 10}}}
        answer = await alice.post("/v3/user/{}/filter", alice.user_id, json=definition)
        await alice.set_state(room, "m.room.name", {"name": "Plans"})
        sync = await alice.get("/v3/sync", query={"filter": answer["filter_id"]})
        timeline = sync["rooms"]["join"][room]["timeline"]["events"]
        assert [event["type"] for event in timeline] == ["m.room.name"]

    @pytest.mark.parametrize("definition", [{"room": []}, {"room": {"timeline": {"limit": "many"}}}, []])
    async def test_a_wrong_one_is_refused(self, alice: User, definition: object) -> None:
        with refused(400, "M_BAD_JSON"):
            await alice.post("/v3/user/{}/filter", alice.user_id, json=definition)


class TestPushRules:
    async def test_the_default_rules_are_there(self, alice: User) -> None:
        rules = (await alice.get("/v3/pushrules/"))["global"]
        assert rules == await alice.get("/v3/pushrules/global/")
        override = [rule["rule_id"] for rule in rules["override"]]
        assert override[0] == ".m.rule.master"
        assert ".m.rule.suppress_notices" in override
        assert {".m.rule.message", ".m.rule.encrypted"} <= {rule["rule_id"] for rule in rules["underride"]}
        assert rules == by_type((await alice.sync())["account_data"]["events"])["m.push_rules"]["global"]

    async def test_a_rule_is_made_switched_changed_and_removed(self, alice: User) -> None:
        since = (await alice.sync())["next_batch"]
        await alice.put(RULE, "content", "lunch", json={"pattern": "lunch", "actions": ["notify"]})
        rule = await alice.get(RULE, "content", "lunch")
        assert (rule["pattern"], rule["actions"], rule["enabled"], rule["default"]) == (
            "lunch",
            ["notify"],
            True,
            False,
        )
        await alice.put(f"{RULE}/enabled", "content", "lunch", json={"enabled": False})
        assert await alice.get(f"{RULE}/enabled", "content", "lunch") == {"enabled": False}
        actions = ["notify", {"set_tweak": "highlight", "value": True}]
        await alice.put(f"{RULE}/actions", "content", "lunch", json={"actions": actions})
        assert await alice.get(f"{RULE}/actions", "content", "lunch") == {"actions": actions}
        changed = by_type((await alice.sync(since))["account_data"]["events"])["m.push_rules"]["global"][
            "content"
        ]
        assert [each["actions"] for each in changed if each["rule_id"] == "lunch"] == [actions]
        await alice.delete(RULE, "content", "lunch")
        with refused(404, "M_NOT_FOUND"):
            await alice.get(RULE, "content", "lunch")

    async def test_rules_are_put_before_and_after_others(self, alice: User) -> None:
        for name, query in (("b", {}), ("a", {"before": "b"}), ("c", {"after": "b"})):
            await alice.put(RULE, "content", name, json={"pattern": name, "actions": []}, query=query)
        content = (await alice.get("/v3/pushrules/global/"))["content"]
        assert [rule["rule_id"] for rule in content if not rule["default"]] == ["a", "b", "c"]
        with refused(400, "M_UNKNOWN"):
            await alice.put(
                RULE, "content", "d", json={"pattern": "d", "actions": []}, query={"before": "no-such-rule"}
            )

    async def test_default_rules_are_switched_but_not_removed(self, alice: User) -> None:
        await alice.put(f"{RULE}/enabled", "override", ".m.rule.master", json={"enabled": True})
        assert (await alice.get(RULE, "override", ".m.rule.master"))["enabled"] is True
        with refused(400, "M_INVALID_PARAM"):
            await alice.put(RULE, "override", ".mine", json={"actions": [], "conditions": []})
        with refused(404, "M_NOT_FOUND"):
            await alice.get(RULE, "override", "no-such-rule")
