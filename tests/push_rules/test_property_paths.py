"""Dot-separated property paths."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.property_paths import parse_property_path


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("type", ("type",)),
        ("content.body", ("content", "body")),
        (r"content.m\.relates_to", ("content", "m.relates_to")),
        (r"content.m\\foo", ("content", "m\\foo")),
        (r"content.m\x", ("content", "m\\x")),
        (r"content.m\\.foo", ("content", "m\\", "foo")),
        ("content.m\\", ("content", "m\\")),
        ("", ("",)),
        ("content.", ("content", "")),
        (r"\..\\", (".", "\\")),
    ],
)
def test_parse(path: str, names: tuple[str, ...]) -> None:
    assert parse_property_path(path) == names


@given(st.lists(st.text(alphabet="ab.\\", max_size=5), min_size=1, max_size=4))
def test_escaped_names_read_back(names: list[str]) -> None:
    path = ".".join(name.replace("\\", r"\\").replace(".", r"\.") for name in names)
    assert parse_property_path(path) == tuple(names)
