"""Parts of server names, and what well-known files say and how long it holds."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict

from federation.errors import BadIdentifier
from federation.server_names import (
    ERROR_LIFETIME_MAX_MS,
    HOUR_MS,
    LIFETIME_DEFAULT_MS,
    LIFETIME_MAX_MS,
    LIFETIME_MIN_MS,
    BadWellKnown,
    error_lifetime_ms,
    parse_server_name,
    read_well_known,
    well_known_lifetime_ms,
)

NOW_MS = 1_700_000_000_000  # Tue, 14 Nov 2023 22:13:20 GMT


@pytest.mark.parametrize(
    ("name", "host", "port", "is_address"),
    [
        ("Example.org", "example.org", None, False),
        ("example.org:443", "example.org", 443, False),
        ("192.0.2.7", "192.0.2.7", None, True),
        ("192.0.2.7:1", "192.0.2.7", 1, True),
        ("[2001:db8::1]", "2001:db8::1", None, True),
        ("[2001:db8::1]:65535", "2001:db8::1", 65535, True),
        ("1.2.3.4.example", "1.2.3.4.example", None, False),
    ],
)
def test_names_are_taken_apart(name: str, host: str, port: int | None, is_address: bool) -> None:
    parsed = parse_server_name(name)
    assert (parsed.host, parsed.port, parsed.address is not None) == (host, port, is_address)
    assert parsed.text == name


@pytest.mark.parametrize("name", ["", "a:0", "a:65536", "[1.2.3.4]", "[::1", "a/b", "a b", "[fe80::1%eth0]"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(BadIdentifier):
        parse_server_name(name)


def test_a_well_known_file_delegates() -> None:
    delegated = read_well_known(b'{"m.server": "matrix.example.org:443", "other": 1}')
    assert (delegated.host, delegated.port) == ("matrix.example.org", 443)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"m.server": 1}', b'{"m.server": "a b"}'])
def test_a_file_without_a_name_does_not(body: bytes) -> None:
    with pytest.raises(BadWellKnown):
        read_well_known(body)


@pytest.mark.parametrize(
    ("headers", "lifetime_ms"),
    [
        ({}, LIFETIME_DEFAULT_MS),
        ({"Cache-Control": "public, max-age=7200"}, 2 * HOUR_MS),
        ({"cache-control": "MAX-AGE=7200"}, 2 * HOUR_MS),
        ({"Cache-Control": "max-age=999999999"}, LIFETIME_MAX_MS),
        ({"Cache-Control": "max-age=0"}, LIFETIME_MIN_MS),
        ({"Cache-Control": "no-store, max-age=7200"}, LIFETIME_MIN_MS),
        ({"Cache-Control": "max-age=7200", "Expires": "0"}, 2 * HOUR_MS),
        ({"Expires": "Tue, 14 Nov 2023 23:13:20 GMT"}, HOUR_MS),
        ({"Expires": "0"}, LIFETIME_MIN_MS),
        ({"Cache-Control": "private"}, LIFETIME_DEFAULT_MS),
    ],
)
def test_cache_headers_are_respected_within_bounds(headers: dict[str, str], lifetime_ms: int) -> None:
    assert well_known_lifetime_ms(CIMultiDict(headers), NOW_MS) == lifetime_ms


def test_failures_are_kept_longer_each_time_up_to_an_hour() -> None:
    lifetimes = [error_lifetime_ms(failures) for failures in range(1, 12)]
    assert lifetimes == sorted(lifetimes)
    assert lifetimes[0] < lifetimes[1] < lifetimes[-1] == ERROR_LIFETIME_MAX_MS
