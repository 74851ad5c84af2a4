"""Key documents, and which key counts for an event."""

from __future__ import annotations

from typing import Any

import pytest

from federation.canonical import JsonObject
from federation.errors import BadKey, BadSignature, NotCanonical
from federation.keys import SigningKey
from federation.room_versions import RoomVersion
from federation.server_keys import (
    KEYS_MAX,
    VALIDITY_MAX_MS,
    OldVerifyKey,
    ServerKeys,
    make_server_keys,
    read_server_keys,
    retired_keys,
    succeed,
    with_retired,
)
from federation.signing import sign_json, verify_event
from tests.federation.samples import ALICE_KEY, ALL_VERSIONS, BOB_KEY, build

NEW_KEY = SigningKey.from_seed("c", bytes(range(64, 96)))

NOW_MS = 1_700_000_000_000
UNTIL_MS = NOW_MS + 24 * 3600 * 1000
EXPIRED_MS = NOW_MS - 1000


def document(**changes: object) -> JsonObject:
    """Alice's server's document with fields changed before it is signed."""
    made = make_server_keys(
        "example.org", [ALICE_KEY], [OldVerifyKey(BOB_KEY.verify_key, EXPIRED_MS)], UNTIL_MS
    )
    del made["signatures"]
    return sign_json({**made, **changes}, "example.org", ALICE_KEY)


def read(json: JsonObject) -> ServerKeys:
    return read_server_keys(json, "example.org", NOW_MS)


def test_what_is_published_can_be_read() -> None:
    keys = read(document())
    assert keys.verify_keys == {"ed25519:1": ALICE_KEY.verify_key}
    assert keys.old_verify_keys == {"ed25519:b": OldVerifyKey(BOB_KEY.verify_key, EXPIRED_MS)}
    assert keys.valid_until_ms == UNTIL_MS


def test_every_current_key_signs_the_document() -> None:
    made = make_server_keys("example.org", [ALICE_KEY, BOB_KEY], [], UNTIL_MS)
    assert made["signatures"]["example.org"].keys() == {"ed25519:1", "ed25519:b"}
    assert read(made).verify_keys.keys() == {"ed25519:1", "ed25519:b"}


def test_validity_is_cut_at_seven_days() -> None:
    far = read(document(valid_until_ts=2**53 - 1))
    assert far.valid_until_ms == NOW_MS + VALIDITY_MAX_MS
    assert read(document(valid_until_ts=5)).valid_until_ms == 5


def test_requests_are_signed_by_current_keys_only_and_only_while_the_document_is_valid() -> None:
    keys = read(document())
    assert keys.for_requests(UNTIL_MS).keys() == {"ed25519:1"}
    assert keys.for_requests(UNTIL_MS + 1) == {}


@pytest.mark.parametrize("version", ALL_VERSIONS, ids=lambda version: version.id)
def test_which_keys_may_have_signed_an_event(version: RoomVersion) -> None:
    keys = read(document())
    assert keys.for_event(version, EXPIRED_MS).keys() == {"ed25519:1", "ed25519:b"}
    assert keys.for_event(version, EXPIRED_MS + 1).keys() == {"ed25519:1"}
    assert keys.for_event(version, UNTIL_MS).keys() == {"ed25519:1"}
    # Only from room version 5 on does a key stop counting when its document runs out.
    expected = set() if int(version.id) >= 5 else {"ed25519:1"}
    assert keys.for_event(version, UNTIL_MS + 1).keys() == expected


@pytest.mark.parametrize("version", ALL_VERSIONS, ids=lambda version: version.id)
def test_an_event_by_an_expired_key_is_refused(version: RoomVersion) -> None:
    keys = read(document())
    for origin_server_ts in (EXPIRED_MS, EXPIRED_MS + 1):
        event, _ = build(version, key=BOB_KEY, origin_server_ts=origin_server_ts)
        valid = {"example.org": keys.for_event(version, event.origin_server_ts)}
        if origin_server_ts == EXPIRED_MS:
            verify_event(event.json, version, valid)
        else:
            with pytest.raises(BadSignature):
                verify_event(event.json, version, valid)


ALICE_ENTRY = {"key": ALICE_KEY.verify_key_base64}


@pytest.mark.parametrize(
    "changes",
    [
        {"server_name": "elsewhere.org"},
        {"valid_until_ts": None},
        {"valid_until_ts": "5"},
        {"valid_until_ts": True},
        {"verify_keys": []},
        {"verify_keys": {"ed25519:1": ALICE_KEY.verify_key_base64}},
        {"verify_keys": {"ed25519:1": {"key": "AAAA"}}},
        {"verify_keys": {"ed25519:1": {"key": 5}}},
        {"verify_keys": {f"ed25519:{number}": ALICE_ENTRY for number in range(KEYS_MAX + 1)}},
        {"old_verify_keys": []},
        {"old_verify_keys": {"ed25519:0": ALICE_ENTRY}},
        {"old_verify_keys": {"ed25519:0": {**ALICE_ENTRY, "expired_ts": "5"}}},
    ],
    ids=lambda changes: repr(changes)[:60],
)
def test_an_unreadable_document_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(BadKey):
        read(document(**changes))


def test_a_document_must_be_signed_by_its_own_current_key() -> None:
    made = document()
    other_keys = document(verify_keys={"ed25519:b": {"key": BOB_KEY.verify_key_base64}}, old_verify_keys={})
    forged = {**made, "verify_keys": {"ed25519:1": {"key": BOB_KEY.verify_key_base64}}}
    for refused in ({**made, "signatures": {}}, other_keys, forged):
        with pytest.raises(BadSignature):
            read(refused)
    one_bad = make_server_keys("example.org", [ALICE_KEY, BOB_KEY], [], UNTIL_MS)
    one_bad["signatures"]["example.org"]["ed25519:b"] = one_bad["signatures"]["example.org"]["ed25519:1"]
    with pytest.raises(BadSignature):
        read(one_bad)
    with pytest.raises(NotCanonical):
        read({**made, "number": 0.5})


def test_keys_of_other_algorithms_are_left_out() -> None:
    keys = read(document(verify_keys={"ed25519:1": ALICE_ENTRY, "future:1": {"key": "AAAA"}, "odd": 5}))
    assert keys.verify_keys.keys() == {"ed25519:1"}


def test_keys_that_a_server_drops_without_a_word_count_until_their_document_ran_out() -> None:
    older = read(document())
    newer = read_server_keys(
        make_server_keys("example.org", [NEW_KEY], [], UNTIL_MS + 1000), "example.org", NOW_MS
    )
    keys = succeed(newer, older)
    assert set(keys.for_requests(NOW_MS)) == {NEW_KEY.key_id}
    assert set(keys.old_verify_keys) == {ALICE_KEY.key_id, BOB_KEY.key_id}
    assert ALICE_KEY.key_id in keys.for_event(ALL_VERSIONS[-1], UNTIL_MS)
    assert ALICE_KEY.key_id not in keys.for_event(ALL_VERSIONS[-1], UNTIL_MS + 1)
    assert BOB_KEY.key_id not in keys.for_event(ALL_VERSIONS[-1], EXPIRED_MS + 1)
    assert with_retired(newer, retired_keys(keys)) == keys


def test_what_a_server_says_of_its_old_keys_leads() -> None:
    older = read(document())
    newer = read_server_keys(
        make_server_keys(
            "example.org", [NEW_KEY], [OldVerifyKey(ALICE_KEY.verify_key, EXPIRED_MS)], UNTIL_MS
        ),
        "example.org",
        NOW_MS,
    )
    keys = succeed(newer, older)
    assert keys.old_verify_keys[ALICE_KEY.key_id].expired_ms == EXPIRED_MS
    assert set(retired_keys(keys)) == {BOB_KEY.key_id}
