"""The identifier grammars. Source: Appendices, "Identifier Grammar"."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.errors import BadIdentifier
from federation.identifiers import (
    check_event_id,
    check_room_alias,
    check_room_id,
    check_server_name,
    check_user_id,
    is_compliant_user_id,
    is_namespaced,
    is_opaque,
    is_valid_server_name,
    server_name_of,
    split_room_alias,
    split_user_id,
)

HASH = "acR1l0raoZnm60CBwAVgqbqZoO_mYU81xysh1u7XcJk"


@pytest.mark.parametrize(
    "name",
    # The specification's examples, then edges.
    ["matrix.org", "matrix.org:8888", "1.2.3.4", "1.2.3.4:1234", "[1234:5678::abcd]",
     "[1234:5678::abcd]:5678", "localhost", "A-b.C:1", "x" * 255],
)  # fmt: skip
def test_server_names(name: str) -> None:
    assert is_valid_server_name(name)
    check_server_name(name)
    assert split_user_id(f"@a:{name}"[:255]) == ("a", name[:252])


@pytest.mark.parametrize(
    "name",
    ["", ":80", "a:", "a:b", "a:123456", "a b", "a_b.example", "é.example", "[1::2", "1::2", "[]", "[g::]",
     "a\n", "a:80\n", "a/b", "a@b", "a:80:80", "x" * 256, "[::1]x", "١.example", "a:١"],
    ids=repr,
)  # fmt: skip
def test_what_is_no_server_name(name: str) -> None:
    assert not is_valid_server_name(name)
    with pytest.raises(BadIdentifier):
        check_server_name(name)
    with pytest.raises(BadIdentifier):
        split_user_id(f"@a:{name}")


@pytest.mark.parametrize("localpart", ["alice", "a.b_c=d-e/f+0", "0"])
def test_user_ids_that_may_be_handed_out(localpart: str) -> None:
    user_id = f"@{localpart}:example.org:80"
    check_user_id(user_id, new=True)
    assert split_user_id(user_id) == (localpart, "example.org:80")
    assert is_compliant_user_id(user_id)


@pytest.mark.parametrize(
    ("localpart", "compliant"),
    [("Alice", True), ("a!~", True), ("", False), ("a b", False), ("é", False), ("\x01", False)],
)
def test_historical_user_ids_are_accepted_but_not_handed_out(localpart: str, compliant: bool) -> None:
    user_id = f"@{localpart}:example.org"
    check_user_id(user_id)
    with pytest.raises(BadIdentifier):
        check_user_id(user_id, new=True)
    assert is_compliant_user_id(user_id) is compliant


@pytest.mark.parametrize(
    "user_id",
    ["", "@", "alice", "@alice", "alice:example.org", "#alice:example.org", "@a\0b:example.org", "@alice:",
     "@al:ice:example.org", "@\ud800:example.org", "@" + "a" * 244 + ":example.org",
     "@" + "é" * 122 + "a:example.org"],
    ids=ascii,
)  # fmt: skip
def test_what_is_no_user_id(user_id: str) -> None:
    with pytest.raises(BadIdentifier):
        check_user_id(user_id)
    assert not is_compliant_user_id(user_id)


def test_255_bytes_are_allowed_and_counted_as_utf_8() -> None:
    check_user_id("@" + "a" * 242 + ":example.org")
    check_user_id("@" + "é" * 121 + ":example.org")


def test_room_aliases() -> None:
    assert split_room_alias("#a room é:example.org") == ("a room é", "example.org")
    for alias in (
        "#a",
        "a:example.org",
        "@a:example.org",
        "#a\0:example.org",
        "",
        "#" + "a" * 250 + ":b.example",
    ):
        with pytest.raises(BadIdentifier):
            check_room_alias(alias)


@pytest.mark.parametrize("room_id", ["!" + HASH, "!abc123:matrix.org", "!é:matrix.org:80"])
def test_room_ids_of_both_forms(room_id: str) -> None:
    check_room_id(room_id)


@pytest.mark.parametrize(
    "room_id", ["", "!", "!abc", "$" + HASH, "!" + HASH + "x", "!" + HASH[:-1] + "+", "#a:b"]
)
def test_what_is_no_room_id(room_id: str) -> None:
    with pytest.raises(BadIdentifier):
        check_room_id(room_id)


@pytest.mark.parametrize("event_id", ["$" + HASH, "$a/b+c", "$x:example.org", "$" + "x" * 254])
def test_event_ids_of_all_forms(event_id: str) -> None:
    check_event_id(event_id)


@pytest.mark.parametrize("event_id", ["", "$", "x", "!" + HASH, "$a\0b", "$" + "x" * 255, "$" + "é" * 128])
def test_what_is_no_event_id(event_id: str) -> None:
    with pytest.raises(BadIdentifier):
        check_event_id(event_id)


def test_the_server_of_an_identifier_is_what_follows_the_first_colon() -> None:
    assert server_name_of("@alice:example.org:80") == "example.org:80"
    for identifier in ("!" + HASH, "$x:", ""):
        with pytest.raises(BadIdentifier):
            server_name_of(identifier)


@pytest.mark.parametrize("check", [check_user_id, check_room_alias, check_room_id, check_event_id])
@given(text=st.text(max_size=300))
def test_any_text_is_either_accepted_or_refused(check: Callable[[str], None], text: str) -> None:
    for sigil in ("", "@", "#", "!", "$"):
        try:
            check(sigil + text)
        except BadIdentifier:
            continue
        assert len((sigil + text).encode()) <= 255


def test_other_grammars() -> None:
    assert is_namespaced("m.login.password") and is_namespaced("a" * 255)
    assert not any(is_namespaced(text) for text in ("", "M.x", "1a", "a b", "a" * 256, "a\n"))
    assert is_opaque("Aa0-._~")
    assert not any(is_opaque(text) for text in ("", "a/b", "a:b", "é", "a" * 256, "a\n"))
