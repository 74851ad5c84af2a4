"""Events and JSON that several tests of the pure rules start from."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from federation.building import build_event
from federation.canonical import INTEGER_MAX, JsonObject
from federation.event import PDU
from federation.keys import SigningKey
from federation.room_versions import ROOM_VERSIONS, RoomVersion

ALL_VERSIONS = list(ROOM_VERSIONS.values())
ALICE_KEY = SigningKey.from_seed("1", bytes(range(32)))
BOB_KEY = SigningKey.from_seed("b", bytes(range(32, 64)))

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
scalars = st.none() | st.booleans() | st.integers(-INTEGER_MAX, INTEGER_MAX) | texts
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)
json_objects = st.dictionaries(texts, json_values, max_size=5)
room_versions = st.sampled_from(ALL_VERSIONS)

CONTENT_KEYS = [
    "membership", "join_authorised_via_users_server", "third_party_invite", "creator", "room_version",
    "join_rule", "allow", "ban", "invite", "kick", "users", "aliases", "history_visibility", "redacts",
    "body", "signed",
]  # fmt: skip
EVENT_TYPES = [
    "m.room.create", "m.room.member", "m.room.join_rules", "m.room.power_levels", "m.room.aliases",
    "m.room.history_visibility", "m.room.redaction", "m.room.message",
]  # fmt: skip
contents = st.dictionaries(st.sampled_from(CONTENT_KEYS) | texts, json_values, max_size=8)


@st.composite
def event_jsons(draw: st.DrawFn) -> JsonObject:
    """Event-like JSON with protected, unprotected and unknown keys, and any content."""
    event: JsonObject = {
        "type": draw(st.sampled_from(EVENT_TYPES)),
        "sender": "@alice:example.org",
        "room_id": "!room:example.org",
        "event_id": "$event:example.org",
        "content": draw(contents),
        "depth": draw(st.integers(0, INTEGER_MAX)),
        "origin_server_ts": draw(st.integers(0, INTEGER_MAX)),
        "prev_events": [],
        "auth_events": [],
        "hashes": {"sha256": "x"},
        "signatures": {},
    }
    extra = st.dictionaries(
        st.sampled_from(["origin", "membership", "prev_state", "state_key", "redacts", "age_ts"]) | texts,
        json_values,
        max_size=4,
    )
    for key, value in draw(extra).items():
        event.setdefault(key, value)
    return event


def event_id_in(version: RoomVersion, letter: str) -> str:
    """An event ID of the form that a room version has."""
    return "$" + letter * 43 if version.event_id_is_hash else f"${letter}:example.org"


def build(version: RoomVersion, **changes: Any) -> tuple[PDU, bytes]:
    """A message by Alice in a room of one version, with fields changed at will."""
    prev, auth = event_id_in(version, "p"), event_id_in(version, "a")
    arguments: dict[str, Any] = {
        "version": version,
        "room_id": "!" + "r" * 43 if version.room_id_is_create_hash else "!room:example.org",
        "type": "m.room.message",
        "state_key": None,
        "sender": "@alice:example.org",
        "content": {"msgtype": "m.text", "body": "Hello"},
        "prev_events": [prev],
        "auth_events": [auth],
        "depth": 5,
        "origin_server_ts": 1_700_000_000_000,
        "server_name": "example.org",
        "key": ALICE_KEY,
        "reference_hashes": {prev: "cHJldg", auth: "YXV0aA"},
    }
    return build_event(**(arguments | changes))
