"""What `compile_filter` makes of a client's JSON, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.errors import BadJson, InvalidParam, MatrixError
from homeserver.filters import NO_FILTER, compile_filter, compile_room_event_filter
from homeserver.filters.compile import EVENT_FIELDS_MAX, LIMIT_MAX, LIST_ENTRIES_MAX, TYPES_MAX

EVENT_FILTERS = ["presence", "account_data"]
ROOM_EVENT_FILTERS = ["room.account_data", "room.ephemeral", "room.state", "room.timeline"]


def at(place: str, value: Any) -> dict[str, Any]:
    """``value`` at a dotted place, such as room.timeline."""
    for name in reversed(place.split(".")):
        value = {name: value}
    return value  # type: ignore[no-any-return]


def test_the_specifications_example() -> None:
    compiled = compile_filter(
        {
            "room": {
                "state": {"types": ["m.room.*"], "not_rooms": ["!726s6s6q:example.com"]},
                "timeline": {
                    "limit": 10,
                    "types": ["m.room.message"],
                    "not_rooms": ["!726s6s6q:example.com"],
                    "not_senders": ["@spam:example.com"],
                },
                "ephemeral": {
                    "types": ["m.receipt", "m.typing"],
                    "not_rooms": ["!726s6s6q:example.com"],
                    "not_senders": ["@spam:example.com"],
                },
            },
            "presence": {"types": ["m.presence"], "not_senders": ["@alice:example.com"]},
            "event_format": "client",
            "event_fields": ["type", "content", "sender"],
        }
    )
    assert compiled.event_fields is not None
    assert compiled.event_fields.project({"type": "t", "content": {}, "event_id": "$e"}) == {
        "type": "t",
        "content": {},
    }
    assert compiled.room.state.matches("!r:example.com", "m.room.name", "@bob:example.com", {})
    assert not compiled.room.state.matches("!726s6s6q:example.com", "m.room.name", "@bob:example.com", {})
    assert not compiled.room.timeline.matches("!r:example.com", "m.room.message", "@spam:example.com", {})
    assert compiled.room.timeline.limit == 10
    assert not compiled.presence.matches("m.presence", "@alice:example.com")
    assert compiled.account_data.passes_all and compiled.room.account_data.passes_all


def test_the_empty_filter_passes_everything() -> None:
    assert compile_filter({}) is NO_FILTER
    assert NO_FILTER.presence.passes_all and NO_FILTER.account_data.passes_all
    assert NO_FILTER.event_fields is None and NO_FILTER.event_format == "client"
    assert NO_FILTER.room.matches_room("!r") and not NO_FILTER.room.include_leave
    for part in (
        NO_FILTER.room.state,
        NO_FILTER.room.timeline,
        NO_FILTER.room.ephemeral,
        NO_FILTER.room.account_data,
    ):
        assert part.passes_all and part.matches("!r", "t", None, {})
        assert not (
            part.lazy_load_members or part.include_redundant_members or part.unread_thread_notifications
        )


def test_empty_parts_pass_everything() -> None:
    assert compile_filter({"room": {"timeline": {}}, "presence": {}}) == NO_FILTER


def test_unknown_keys_are_ignored() -> None:
    assert compile_filter({"org.example": 1, "room": {"timeline": {"org.example": []}}}) == NO_FILTER


@pytest.mark.parametrize("event_format", ["client", "federation"])
def test_event_format(event_format: str) -> None:
    compiled = compile_filter({"event_format": event_format})
    assert compiled.event_format == event_format
    assert compiled.sends_encoded_events is (event_format == "client")


def test_events_cut_down_cannot_be_sent_as_encoded() -> None:
    assert not compile_filter({"event_fields": ["type"]}).sends_encoded_events
    assert compile_filter({"event_fields": []}).sends_encoded_events


def test_room_filter() -> None:
    room = compile_filter({"room": {"rooms": ["!a", "!b"], "not_rooms": ["!b"], "include_leave": True}}).room
    assert [room.matches_room(each) for each in ("!a", "!b", "!c")] == [True, False, False]
    assert room.include_leave


@pytest.mark.parametrize("place", ROOM_EVENT_FILTERS)
def test_flags_of_a_room_event_filter(place: str) -> None:
    for flag in ("lazy_load_members", "include_redundant_members", "unread_thread_notifications"):
        compiled = compile_filter(at(place, {flag: True}))
        part = getattr(compiled.room, place.removeprefix("room."))
        assert getattr(part, flag) is True
        assert part.passes_all  # it filters no event
        assert compile_filter(at(place, {flag: False})) == NO_FILTER


@pytest.mark.parametrize("definition", [None, [], "x", 1, True])
def test_a_filter_must_be_an_object(definition: Any) -> None:
    with pytest.raises(BadJson):
        compile_filter(definition)
    with pytest.raises(BadJson):
        compile_room_event_filter(definition)


@pytest.mark.parametrize("place", ["room", *EVENT_FILTERS, *ROOM_EVENT_FILTERS])
@pytest.mark.parametrize("value", [None, [], "not_an_object", 1])
def test_parts_must_be_objects(place: str, value: Any) -> None:
    with pytest.raises(BadJson, match=place):
        compile_filter(at(place, value))


@pytest.mark.parametrize("place", [*EVENT_FILTERS, *ROOM_EVENT_FILTERS])
@pytest.mark.parametrize("name", ["types", "not_types", "senders", "not_senders"])
def test_lists_of_an_event_filter(place: str, name: str) -> None:
    for value in (None, "not_a_list", {}, [0], [None], [["@a"]]):
        with pytest.raises(BadJson, match=f"{place}.{name}"):
            compile_filter(at(place, {name: value}))
    with pytest.raises(InvalidParam, match=f"{place}.{name}"):
        compile_filter(at(place, {name: ["@" + "x" * 255]}))
    with pytest.raises(InvalidParam, match=f"{place}.{name}"):
        compile_filter(at(place, {name: ["@x"] * (LIST_ENTRIES_MAX + 1)}))


@pytest.mark.parametrize("place", ["room", *ROOM_EVENT_FILTERS])
@pytest.mark.parametrize("name", ["rooms", "not_rooms"])
def test_lists_of_rooms(place: str, name: str) -> None:
    for value, error in [
        ("not_a_list", BadJson),
        ([0], BadJson),
        (["not_a_room_id"], InvalidParam),
        ([""], InvalidParam),
    ]:
        with pytest.raises(error, match=f"{place}.{name}"):
            compile_filter(at(place, {name: value}))


@pytest.mark.parametrize("name", ["senders", "not_senders", "related_by_senders"])
def test_senders_must_be_user_ids(name: str) -> None:
    with pytest.raises(InvalidParam, match=f"room.timeline.{name}"):
        compile_filter(at("room.timeline", {name: ["@a:b", "not_a_sender_id"]}))


@pytest.mark.parametrize("name", ["types", "not_types"])
def test_the_number_of_types_is_bounded(name: str) -> None:
    compile_room_event_filter({name: ["a*b"] * TYPES_MAX})
    with pytest.raises(InvalidParam):
        compile_room_event_filter({name: ["a*b"] * (TYPES_MAX + 1)})


@pytest.mark.parametrize(
    "flag",
    ["lazy_load_members", "include_redundant_members", "unread_thread_notifications", "contains_url"],
)
@pytest.mark.parametrize("value", [None, 1, 0, "true", []])
def test_flags_are_strictly_boolean(flag: str, value: Any) -> None:
    with pytest.raises(BadJson, match=f"room.state.{flag}"):
        compile_filter(at("room.state", {flag: value}))


def test_include_leave_is_strictly_boolean() -> None:
    with pytest.raises(BadJson, match=r"room\.include_leave"):
        compile_filter({"room": {"include_leave": 1}})


@pytest.mark.parametrize(
    ("limit", "kept"), [(1, 1), (10, 10), (0, 0), (LIMIT_MAX, LIMIT_MAX), (10**30, LIMIT_MAX)]
)
def test_limit_is_brought_within_bounds(limit: int, kept: int) -> None:
    assert compile_filter(at("room.timeline", {"limit": limit})).room.timeline.limit == kept
    assert compile_filter(at("presence", {"limit": limit})).presence.limit == kept


@pytest.mark.parametrize(
    ("limit", "error"),
    [(-1, InvalidParam), ("10", BadJson), (True, BadJson), (1.5, BadJson), (None, BadJson)],
)
def test_limits_that_are_refused(limit: Any, error: type[MatrixError]) -> None:
    with pytest.raises(error, match=r"room\.timeline\.limit"):
        compile_filter(at("room.timeline", {"limit": limit}))


def test_limit_within_an_endpoints_bounds() -> None:
    given_limit, no_limit = compile_room_event_filter({"limit": 50}), compile_room_event_filter({})
    assert (given_limit.limit_within(10, 100), given_limit.limit_within(10, 20)) == (50, 20)
    assert (no_limit.limit_within(10, 100), no_limit.limit_within(10, 5)) == (10, 5)


@pytest.mark.parametrize(
    ("definition", "error"),
    [
        ({"event_format": "other"}, InvalidParam),
        ({"event_format": 1}, BadJson),
        ({"event_fields": "type"}, BadJson),
        ({"event_fields": [1]}, BadJson),
        ({"event_fields": ["x" * 513]}, InvalidParam),
        ({"event_fields": ["." * 20]}, InvalidParam),
        ({"event_fields": ["x"] * (EVENT_FIELDS_MAX + 1)}, InvalidParam),
    ],
)
def test_top_level_values_that_are_refused(definition: Any, error: type[MatrixError]) -> None:
    with pytest.raises(error):
        compile_filter(definition)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
room_event_filters = st.dictionaries(
    st.sampled_from(
        [
            "types",
            "not_types",
            "senders",
            "not_senders",
            "rooms",
            "not_rooms",
            "limit",
            "contains_url",
            "lazy_load_members",
            "related_by_rel_types",
            "related_by_senders",
        ]
    ),
    json_values | st.lists(st.sampled_from(["@a:b", "!a:b", "m.*", "*"]), max_size=3),
    max_size=4,
)
filters = st.dictionaries(
    st.sampled_from(["event_fields", "event_format", "presence", "account_data", "room"]),
    json_values
    | room_event_filters
    | st.dictionaries(
        st.sampled_from(["state", "timeline", "rooms"]), json_values | room_event_filters, max_size=3
    ),
    max_size=4,
)


@given(filters | json_values)
def test_any_json_is_compiled_or_refused(definition: Any) -> None:
    try:
        compiled = compile_filter(definition)
    except (BadJson, InvalidParam) as refusal:
        assert refusal.message
    else:
        compiled.room.timeline.matches("!a:b", "m.room.message", "@a:b", {"url": ""})
        hash(compiled.room)
