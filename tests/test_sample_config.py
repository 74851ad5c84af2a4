"""The sample in ``configs/`` is what the classes say."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from msgspec.structs import fields

from homeserver.config.load import ConfigError, parse_config, struct_of
from homeserver.config.node import ServerConfig
from homeserver.config.rates import RateLimit
from homeserver.config.sample import field_docstrings, render_sample, toml_value
from homeserver.config.sections import Config

SAMPLE = Path(__file__).parent.parent / "configs" / "veche.toml"


def test_the_sample_has_not_drifted() -> None:
    assert SAMPLE.read_text() == render_sample({}), "run `veche config sample > configs/veche.toml`"


def test_the_sample_is_the_defaults() -> None:
    assert parse_config(SAMPLE.read_text(), "sample") == Config(
        server=ServerConfig(server_name="example.com")
    )


def test_every_section_and_setting_is_documented() -> None:
    for section in fields(Config):
        struct = struct_of(section.type)
        assert struct is not None
        assert struct.__doc__, section.name
        assert set(field_docstrings(struct)) == {field.name for field in fields(struct)}, section.name


def test_every_commented_setting_works_when_uncommented() -> None:
    lines = SAMPLE.read_text().splitlines()
    commented = [
        number for number, line in enumerate(lines) if line.startswith("#") and not line.startswith("# ")
    ]
    commented = [number for number in commented if line_is_setting(lines[number])]
    assert len(commented) > 60
    for number in commented:
        changed = lines.copy()
        changed[number] = changed[number][1:]
        if any(text in lines[number] for text in ("tls_", "[[support", "#turn_uris", "wss://")):
            continue  # these belong together with others: the test below
        if any(lines[number].startswith(f"#{key} ") for key in ("role", "matrix_id", "email_address")):
            continue
        parse_config("\n".join(changed), lines[number])


def line_is_setting(line: str) -> bool:
    return line[1:].startswith("[[") or " = " in line


def test_settings_that_belong_together_work_when_uncommented_together() -> None:
    text = SAMPLE.read_text()
    contact = ("[[support.contacts]]", "role", "matrix_id", "email_address")
    turn = ("turn_uris", "turn_shared_secret")
    livekit = ('url = "wss', "api_key", "api_secret ", "service_url")
    for key in ("tls_certificate", "tls_key", *contact, *turn, *livekit):
        text = text.replace(f"\n#{key}", f"\n{key}")
    config = parse_config(text, "sample")
    assert config.listeners[0].tls_key is not None
    assert config.support.contacts[0].role == "m.role.admin"
    assert config.voip.turn_uris
    assert config.livekit.service_url


def test_what_is_given_is_set_and_all_else_is_not() -> None:
    text = render_sample(
        {"server": {"server_name": "a.test"}, "registration": {"mode": "open", "tokens": ['x"y\\z é']}},
        client_listener={"port": 0},
    )
    config = parse_config(text, "sample")
    assert config.registration.tokens == ('x"y\\z é',)
    assert config.registration.mode == "open"
    assert config.listeners[0].port == 0
    assert config.auth == Config(server=ServerConfig(server_name="a.test")).auth


@pytest.mark.parametrize(
    "value",
    [
        True,
        0,
        10_000_000,
        0.5,
        2.0,
        'a"b\\c\nd',
        ["x", 1],
        {"a b": "c", "d-e": [True]},
        RateLimit(per_second=2, burst=1),
    ],
)
def test_values_read_back_as_they_were(value: object) -> None:
    read = tomllib.loads(f"value = {toml_value(value)}")["value"]
    assert read == ({"per_second": 2, "burst": 1} if isinstance(value, RateLimit) else value)


def test_a_typing_error_in_the_sample_is_found() -> None:
    with pytest.raises(ConfigError, match="did you mean 'server_name'"):
        parse_config(SAMPLE.read_text().replace("server_name", "server_nam"), "sample")
