"""Server ACLs: the order of their rules, globs, ports and addresses."""

from __future__ import annotations

import time
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.server_acl import ServerAcl


def permits(server_name: str, **content: Any) -> bool:
    return ServerAcl.of(content).permits(server_name)


def test_without_an_allow_list_nobody_may_take_part() -> None:
    assert not permits("a.example")
    assert not permits("a.example", deny=["evil.example"])
    assert permits("a.example", allow=["*"])


def test_what_is_denied_is_so_although_it_is_allowed_too() -> None:
    assert not permits("evil.example", allow=["*"], deny=["evil.example"])
    assert not permits("very.evil.example", allow=["*"], deny=["*.evil.example"])
    assert permits("evil.example", allow=["*"], deny=["*.evil.example"])


def test_ports_and_case_do_not_matter() -> None:
    assert not permits("Evil.Example:8448", allow=["*"], deny=["eVil.example"])
    assert permits("good.example:1234", allow=["GOOD.example"])


@pytest.mark.parametrize("address", ["192.0.2.7", "192.0.2.7:8448", "[2001:db8::1]", "[2001:db8::1]:8448"])
def test_addresses_may_be_excluded(address: str) -> None:
    assert permits(address, allow=["*"])
    assert permits(address, allow=["*"], allow_ip_literals="no")
    assert not permits(address, allow=["*"], allow_ip_literals=False)
    assert permits("host.example", allow=["*"], allow_ip_literals=False)


def test_addresses_are_matched_as_they_are_written() -> None:
    assert not permits("[2001:db8::1]:8448", allow=["*"], deny=["[2001:db8::1]"])
    assert not permits("192.0.2.7:8448", allow=["*"], deny=["192.0.2.?"])


def test_what_has_the_wrong_type_says_nothing() -> None:
    assert not permits("a.example", allow="*")
    assert permits("a.example", allow=[1, None, "*"], deny={"a.example": True})


def test_what_is_no_server_name_may_not_take_part() -> None:
    assert not permits("not a name", allow=["*"])
    assert not permits("", allow=["*"])


@given(st.text("ab.*?", max_size=8), st.text("ab.", min_size=1, max_size=8))
def test_globs_match_as_globs_do(glob: str, host: str) -> None:
    assert permits(host, allow=[glob]) == fnmatchcase(host, glob)


def test_no_list_is_slow() -> None:
    hostile = ["*a" * 200 + "b", "?" * 100 + "*a" * 50 + "b", "*" * 60_000]
    acl = ServerAcl.of({"allow": hostile})
    started = time.perf_counter()
    for count in range(100):
        acl.permits("a" * 200 + f"{count}")
    assert time.perf_counter() - started < 1
