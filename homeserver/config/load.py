"""Reading the TOML file, with errors that name the file, the section, the key and the nearest valid one."""

from __future__ import annotations

import difflib
import inspect
import re
import tomllib
import typing
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from homeserver.config.federation import FederationConfig, PolicyServerConfig
from homeserver.config.node import ListenerConfig, ServerConfig
from homeserver.config.people import RegistrationConfig
from homeserver.config.rooms import LivekitConfig
from homeserver.config.sections import Config

FILE_BYTES_MAX = 1024 * 1024


class ConfigError(Exception):
    """The configuration cannot be used; the message says where and what to do about it."""


def load_config(path: Path) -> Config:
    """Read ``path``; relative paths in it become absolute, and secrets in files are read.

    Raises ConfigError, also for files that are missing or unreadable.
    """
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path}: no such file; make one with `veche init --server-name NAME --config {path}`"
        ) from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) > FILE_BYTES_MAX:
        raise ConfigError(f"{path}: is larger than {FILE_BYTES_MAX} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8, at byte {error.start}") from error
    return _resolve_files(parse_config(text, str(path)), path)


def parse_config(text: str, name: str) -> Config:
    """Make the sections of a TOML document; ``name`` stands for it in errors. Raises ConfigError."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name}: is not TOML: {error}") from error
    for place, key, valid in _unknown_keys(document, Config, ""):
        what = "setting" if place else "section"
        nearest = difflib.get_close_matches(key, valid, n=1, cutoff=0.5)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"there are: {', '.join(valid)}"
        raise ConfigError(f"{name}: {_in_section(place)}unknown {what} {key!r}; {hint}")
    try:
        return msgspec.convert(document, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{name}: {_describe(str(error))}") from error


def _unknown_keys(value: Any, expected: Any, place: str) -> list[tuple[str, str, list[str]]]:
    """(section, key, valid keys) of each key of ``value`` that the class ``expected`` does not have."""
    found: list[tuple[str, str, list[str]]] = []
    if isinstance(value, list):
        for index, item in enumerate(value):
            found += _unknown_keys(item, expected, f"{place}[{index}]")
    elif isinstance(value, dict):
        hints = typing.get_type_hints(expected)
        for key, item in value.items():
            if key not in hints:
                found.append((place, key, list(hints)))
            elif (section := struct_of(hints[key])) is not None:
                found += _unknown_keys(item, section, f"{place}.{key}" if place else key)
    return found


def struct_of(hint: Any) -> type[msgspec.Struct] | None:
    """The struct class within a field's type (itself, or the items of its tuple), or None."""
    if inspect.isclass(hint) and issubclass(hint, msgspec.Struct):
        return hint
    for argument in typing.get_args(hint):
        if (inner := struct_of(argument)) is not None:
            return inner
    return None


def _in_section(place: str) -> str:
    return f"[{place}] " if place else ""


def _describe(message: str) -> str:
    """msgspec's ``Expected `int`, got `str` - at `$.server.x` `` as ``[server] x: expected int, got str``."""
    text, _, at = message.partition(" - at `$")
    place = at.rstrip("`").lstrip(".").replace("[...]", "")
    text = text.replace("`", "").replace("object", "a table").replace("array", "a list")
    section, _, key = place.rpartition(".")
    if text.startswith("Object missing required field "):
        return f"{_in_section(place)}{text.rpartition(' ')[2]} is missing"
    if text.startswith("Invalid enum value "):
        return (
            f"{_in_section(section)}{key}: {_nearest_choice(place, text.rpartition(' ')[2].strip(chr(39)))}"
        )
    if text.startswith("Expected "):
        return f"{_in_section(section)}{key}: {text[0].lower()}{text[1:]}"
    return f"{_in_section(place)}{text}"  # what a section's __post_init__ says of its settings together


def _nearest_choice(place: str, value: str) -> str:
    """What to say of a ``value`` that is none of those that the setting at ``place`` takes."""
    hint: Any = Config
    for key in re.split(r"(?:\[\d+\])?\.", re.sub(r"(\[\d+\])+$", "", place)):
        hint = typing.get_type_hints(struct_of(hint))[key]
    choices = _literal_values(hint)
    nearest = difflib.get_close_matches(value, choices, n=1)
    hint_text = f"did you mean {nearest[0]!r}? " if nearest else ""
    return f"there is no {value!r}; {hint_text}It is one of {', '.join(map(repr, choices))}"


def _literal_values(hint: Any) -> list[str]:
    if typing.get_origin(hint) is typing.Literal:
        return list(typing.get_args(hint))
    return [value for argument in typing.get_args(hint) for value in _literal_values(argument)]


def _resolve_files(config: Config, path: Path) -> Config:
    folder = path.absolute().parent

    def beside(name: str) -> str:
        return str(folder / Path(name).expanduser())

    def beside_or_none(name: str | None) -> str | None:
        return None if name is None else beside(name)

    server: ServerConfig = replace(
        config.server,
        data_dir=beside(config.server.data_dir),
        signing_key_file=beside(config.server.signing_key_file),
        old_keys_file=beside(config.server.old_keys_file),
    )
    listeners: tuple[ListenerConfig, ...] = tuple(
        replace(
            listener,
            tls_certificate=beside_or_none(listener.tls_certificate),
            tls_key=beside_or_none(listener.tls_key),
        )
        for listener in config.listeners
    )
    registration: RegistrationConfig = config.registration
    if registration.shared_secret_file is not None:
        secret_path = Path(beside(registration.shared_secret_file))
        secret = _read_secret(secret_path, f"{path}: [registration] shared_secret_file")
        registration = replace(registration, shared_secret=secret, shared_secret_file=None)
    federation: FederationConfig = replace(
        config.federation, ca_file=beside_or_none(config.federation.ca_file)
    )
    policy_server: PolicyServerConfig = replace(
        config.policy_server, key_file=beside(config.policy_server.key_file)
    )
    livekit: LivekitConfig = config.livekit
    if livekit.api_secret_file is not None:
        secret_path = Path(beside(livekit.api_secret_file))
        secret = _read_secret(secret_path, f"{path}: [livekit] api_secret_file")
        try:
            livekit = replace(livekit, api_secret=secret, api_secret_file=None)
        except ValueError as error:
            raise ConfigError(f"{secret_path}: {error}") from error
    return replace(
        config,
        server=server,
        listeners=listeners,
        registration=registration,
        policy_server=policy_server,
        livekit=livekit,
        federation=federation,
    )


def _read_secret(path: Path, place: str) -> str:
    try:
        secret = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{place}: {path} cannot be read: {error}") from error
    if not secret:
        raise ConfigError(f"{place}: {path} is empty")
    return secret
