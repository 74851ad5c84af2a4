"""EventFilter, RoomEventFilter and ``event_fields`` at work."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.filters import compile_filter, compile_room_event_filter

ROOM, OTHER_ROOM = "!room:a.example", "!other:a.example"
ALICE, BOB = "@alice:a.example", "@bob:b.example"


def passes(definition: dict[str, Any], **event: Any) -> bool:
    fields: dict[str, Any] = {"room_id": ROOM, "event_type": "m.room.message", "sender": ALICE, "content": {}}
    return compile_room_event_filter(definition).matches(**{**fields, **event})


@pytest.mark.parametrize(
    ("types", "event_type", "matches"),
    [
        (["m.room.message"], "m.room.message", True),
        (["m.room.message"], "m.room.messages", False),
        (["m.room.message"], "M.ROOM.MESSAGE", False),
        (["m.room.*"], "m.room.message", True),
        (["m.room.*"], "m.room.", True),
        (["m.room.*"], "m.reaction", False),
        (["*.message"], "m.room.message", True),
        (["m.*.message"], "m.room.message", True),
        (["m.*.message"], "m.message", False),
        (["*room*"], "m.room.message", True),
        (["*"], "anything", True),
        (["**"], "", True),
        (["m.room.?essage"], "m.room.message", False),
        (["m.room.?*"], "m.room.message", False),
        (["m.room.[m]essage"], "m.room.message", False),
        (["m+room"], "mm+room", False),
        (["x", "y*", "m.room.message"], "m.room.message", True),
        ([], "m.room.message", False),
    ],
)
def test_types(types: list[str], event_type: str, matches: bool) -> None:
    assert passes({"types": types}, event_type=event_type) is matches
    assert passes({"not_types": types}, event_type=event_type) is not matches


def test_what_is_excluded_stays_so_even_if_included() -> None:
    assert not passes({"types": ["m.room.message"], "not_types": ["m.room.*"]})
    assert not passes({"senders": [ALICE], "not_senders": [ALICE]})
    assert not passes({"rooms": [ROOM], "not_rooms": [ROOM]})


def test_senders() -> None:
    assert passes({"senders": [ALICE]})
    assert not passes({"senders": [ALICE]}, sender=BOB)
    assert not passes({"senders": []})
    assert passes({"not_senders": [BOB]})
    assert not passes({"not_senders": [BOB]}, sender=BOB)


def test_what_has_no_sender() -> None:
    assert not passes({"senders": [ALICE]}, sender=None)
    assert passes({"not_senders": [ALICE]}, sender=None)


def test_rooms() -> None:
    assert passes({"rooms": [ROOM]})
    assert not passes({"rooms": [ROOM]}, room_id=OTHER_ROOM)
    assert not passes({"rooms": []})
    assert passes({"not_rooms": [OTHER_ROOM]})
    assert not passes({"not_rooms": [OTHER_ROOM]}, room_id=OTHER_ROOM)


def test_contains_url() -> None:
    for url in ("mxc://a.example/x", None, ""):
        assert passes({"contains_url": True}, content={"url": url})
        assert not passes({"contains_url": False}, content={"url": url})
    assert not passes({"contains_url": True}, content={"body": "url"})
    assert passes({"contains_url": False}, content={})


@pytest.mark.parametrize(
    ("definition", "relations", "matches"),
    [
        ({}, [], True),
        ({"related_by_rel_types": ["m.thread"]}, [("m.thread", BOB)], True),
        ({"related_by_rel_types": ["m.thread"]}, [("m.replace", BOB)], False),
        ({"related_by_rel_types": ["m.thread"]}, [], False),
        ({"related_by_senders": [BOB]}, [("m.replace", ALICE), ("m.thread", BOB)], True),
        ({"related_by_senders": [BOB]}, [("m.thread", ALICE)], False),
        (
            {"related_by_senders": [BOB], "related_by_rel_types": ["m.thread"]},
            [("m.thread", ALICE), ("m.replace", BOB)],
            False,
        ),
        ({"related_by_senders": []}, [("m.thread", ALICE)], False),
    ],
)
def test_relations(definition: dict[str, Any], relations: list[tuple[str, str]], matches: bool) -> None:
    compiled = compile_room_event_filter(definition)
    assert compiled.matches_relations(relations) is matches
    assert compiled.needs_relations is bool(definition)
    assert compiled.passes_all is not bool(definition)


@pytest.mark.parametrize(
    "definition",
    [
        {"types": ["*"]},
        {"not_types": ["x"]},
        {"senders": []},
        {"not_senders": [ALICE]},
        {"rooms": []},
        {"not_rooms": [ROOM]},
        {"contains_url": False},
    ],
)
def test_passes_all_is_false_where_anything_filters(definition: dict[str, Any]) -> None:
    assert not compile_room_event_filter(definition).passes_all
    assert compile_room_event_filter({"not_rooms": [], "not_senders": []}).passes_all


def test_rooms_can_be_asked_for_once() -> None:
    compiled = compile_room_event_filter({"rooms": [ROOM], "types": ["m.room.message"]})
    assert compiled.matches_room(ROOM) and not compiled.matches_room(OTHER_ROOM)
    assert not compiled.passes_all_rooms and compile_room_event_filter({"types": []}).passes_all_rooms
    assert compiled.matches_in_room("m.room.message", ALICE, {})
    assert not compiled.matches_in_room("m.room.name", ALICE, {})


def test_event_filters_of_presence() -> None:
    presence = compile_filter({"presence": {"types": ["m.presence"], "not_senders": [BOB]}}).presence
    assert presence.matches("m.presence", ALICE)
    assert not presence.matches("m.presence", BOB)
    assert not presence.matches("m.typing", ALICE)


@given(st.text("ab*.", max_size=6), st.text("ab.", max_size=8))
def test_wildcards_agree_with_the_definition(pattern: str, event_type: str) -> None:
    expression = ".*".join(re.escape(part) for part in pattern.split("*"))
    assert passes({"types": [pattern]}, event_type=event_type) is bool(re.fullmatch(expression, event_type))


def test_hostile_wildcards_stay_fast() -> None:
    compiled = compile_room_event_filter({"types": ["*a" * 120 + "*b"] * 200})
    costs = []
    for _ in range(3):
        began = time.process_time()
        compiled.matches(ROOM, "a" * 254, ALICE, {})
        compiled.matches(ROOM, "a" * 253 + "c", ALICE, {})
        costs.append(time.process_time() - began)
    assert min(costs) < 0.05


# -- event_fields

EVENT = {
    "type": "m.room.message",
    "event_id": "$e",
    "content": {
        "body": "hello",
        "msgtype": "m.text",
        "m.relates_to": {"rel_type": "m.thread", "event_id": "$root"},
        "back\\slash": 1,
        "list": [{"a": 1}],
    },
    "unsigned": {"age": 1},
}


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["type"], {"type": "m.room.message"}),
        (["content.body"], {"content": {"body": "hello"}}),
        ([r"content.m\.relates_to.rel_type"], {"content": {"m.relates_to": {"rel_type": "m.thread"}}}),
        ([r"content.back\\slash"], {"content": {"back\\slash": 1}}),
        (["content.m.relates_to"], {}),
        (["content", "content.body"], {"content": EVENT["content"]}),
        (["content.body", "content"], {"content": EVENT["content"]}),
        (["content.body", "content.msgtype"], {"content": {"body": "hello", "msgtype": "m.text"}}),
        (["content.body.x", "type.x"], {}),
        (["content.list.a"], {}),
        (["missing", "unsigned.missing", "unsigned"], {"unsigned": {"age": 1}}),
        (["unsigned.age.x", "event_id"], {"event_id": "$e"}),
        ([""], {}),
    ],
)
def test_event_fields(paths: list[str], expected: dict[str, Any]) -> None:
    fields = compile_filter({"event_fields": paths}).event_fields
    assert fields is not None
    before = repr(EVENT)
    assert fields.project(EVENT) == expected
    assert repr(EVENT) == before


@given(st.lists(st.sampled_from(["a", "b", "a.a", "a.b", "a.a.b", "b.a", r"a\.b"]), min_size=1, max_size=5))
def test_projection_keeps_what_a_path_covers_and_nothing_else(paths: list[str]) -> None:
    event = {"a": {"a": {"a": 1, "b": 2}, "b": 3}, "b": {"a": 4, "b": 5}, "a.b": 6}
    leaves = {
        ("a", "a", "a"): 1, ("a", "a", "b"): 2, ("a", "b"): 3, ("b", "a"): 4, ("b", "b"): 5, ("a.b",): 6,
    }  # fmt: skip
    wanted = [("a.b",) if path == r"a\.b" else tuple(path.split(".")) for path in paths]
    fields = compile_filter({"event_fields": paths}).event_fields
    assert fields is not None
    projected = fields.project(event)
    for leaf, value in leaves.items():
        found: Any = projected
        for name in leaf:
            found = found.get(name) if isinstance(found, dict) else None
        assert (found == value) == any(leaf[: len(path)] == path for path in wanted)
