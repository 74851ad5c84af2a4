"""Room keys as clients upload them to a backup, read one by one.

`session_data` is any JSON, see `key_backup`; all else is of its type.
Source: key_backup.yaml, definitions/key_backup_data.yaml.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from homeserver.encryption.json_members import JsonMembers
from homeserver.errors import BadJson, InvalidParam, MissingParam, TooLarge
from homeserver.storage.key_backup import SessionRow

ID_BYTES_MAX = 255  # as of rooms; sessions' ids are keys of 43 characters
SESSION_DATA_BYTES_MAX = 16 * 1024  # some 900 are usual
INTEGER_MAX = 2**53 - 1


def read_sessions(
    body: bytes | bytearray, room_id: str | None, session_id: str | None
) -> Iterator[SessionRow]:
    """The sessions in the body of `putRoomKeys`, `putRoomKeysByRoomId` or `putRoomKeyBySessionId`.

    Raises NotJson, BadJson, MissingParam, InvalidParam, TooLarge when it comes to what is wrong.
    """
    reader = JsonMembers(body)
    if room_id is None:
        yield from _rooms(reader)
    elif session_id is None:
        _check_room_id(room_id)
        yield from _sessions(reader, room_id)
    else:
        _check_room_id(room_id)
        yield _session(room_id, session_id, reader.value())
    reader.end()


def _rooms(reader: JsonMembers) -> Iterator[SessionRow]:
    for room_id in _entries(reader, "rooms"):
        _check_room_id(room_id)
        yield from _sessions(reader, room_id)


def _sessions(reader: JsonMembers, room_id: str) -> Iterator[SessionRow]:
    for session_id in _entries(reader, "sessions"):
        yield _session(room_id, session_id, reader.value())


def _entries(reader: JsonMembers, name: str) -> Iterator[str]:
    """The keys of the object that the object which begins here must have under a name."""
    is_there = False
    for member in reader.members():
        if member == name:
            is_there = True
            yield from reader.members()
        else:
            reader.value()
    if not is_there:
        raise MissingParam(f"{name!r} is required")


def _session(room_id: str, session_id: str, data: Any) -> SessionRow:
    _check_id(session_id, "A session's id")
    if not isinstance(data, dict):
        raise BadJson("A session must be an object")
    for name in ("first_message_index", "forwarded_count", "is_verified", "session_data"):
        if name not in data:
            raise MissingParam(f"{name!r} of a session is required")
    is_verified = data["is_verified"]
    if not isinstance(is_verified, bool):
        raise BadJson("'is_verified' of a session must be true or false")
    try:
        encoded = orjson.dumps(data["session_data"])
    except orjson.JSONEncodeError as cause:  # half a surrogate pair, an integer beyond 64 bits, great depth
        raise BadJson("'session_data' holds what cannot be stored") from cause
    if len(encoded) > SESSION_DATA_BYTES_MAX:
        raise TooLarge(f"'session_data' may have {SESSION_DATA_BYTES_MAX} bytes at most")
    return SessionRow(
        room_id=room_id,
        session_id=session_id,
        first_message_index=_count(data, "first_message_index"),
        forwarded_count=_count(data, "forwarded_count"),
        is_verified=is_verified,
        session_data=encoded,
    )


def _count(data: dict[str, Any], name: str) -> int:
    value = data[name]
    if type(value) is not int or not 0 <= value <= INTEGER_MAX:
        raise BadJson(f"{name!r} of a session must be an integer, not negative")
    return value


def _check_room_id(room_id: str) -> None:
    _check_id(room_id, "A room's id")
    if not room_id.startswith("!"):
        raise InvalidParam("A room's id begins with an exclamation mark")


def _check_id(text: str, what: str) -> None:
    try:
        size_bytes = len(text.encode())
    except UnicodeEncodeError as cause:
        raise InvalidParam(f"{what} must be valid Unicode") from cause
    if not 1 <= size_bytes <= ID_BYTES_MAX or "\x00" in text:
        raise InvalidParam(f"{what} must have 1 to {ID_BYTES_MAX} bytes, and no NUL character")
