"""Identifiers: how they are written and what they may hold. Source: Appendices, "Identifier Grammar"."""

from __future__ import annotations

import re

from federation.errors import BadIdentifier

MAX_ID_BYTES = 255

_SERVER_NAME = re.compile(r"(?:\[[0-9A-Fa-f:.]{2,45}\]|[0-9A-Za-z.\-]{1,255})(?::[0-9]{1,5})?")
_NEW_LOCALPART = re.compile(r"[a-z0-9._=\-/+]+")
_COMPLIANT_LOCALPART = re.compile(r"[\x21-\x39\x3b-\x7e]+")
_NAMESPACED = re.compile(r"[a-z][a-z0-9\-_.]{0,254}")
_OPAQUE = re.compile(r"[0-9A-Za-z\-._~]{1,255}")
_HASH_LOCALPART = re.compile(r"[0-9A-Za-z\-_]{43}")


def is_valid_server_name(name: str) -> bool:
    """Whether ``name`` matches the server name grammar: a host name or address, perhaps a port."""
    return len(name) <= MAX_ID_BYTES and _SERVER_NAME.fullmatch(name) is not None


def check_server_name(name: str) -> None:
    """Raise BadIdentifier unless ``name`` is a server name."""
    if not is_valid_server_name(name):
        raise BadIdentifier("Not a valid server name")


def server_name_of(identifier: str) -> str:
    """The part after the first ``:``, the server on which an identifier resolves.

    For identifiers that were checked when they came in. Raises BadIdentifier if there is no such
    part, as in event IDs from room version 3 and room IDs from version 12.
    """
    server_name = identifier.partition(":")[2]
    if not server_name:
        raise BadIdentifier("The identifier names no server")
    return server_name


def split_user_id(user_id: str) -> tuple[str, str]:
    """``(localpart, server name)``, by the historical grammar: any characters but ``:`` and NUL.

    Raises BadIdentifier. Source: "Historical User IDs", which servers must accept from others.
    """
    return _split(user_id, "@", "user ID")


def check_user_id(user_id: str, *, new: bool = False) -> None:
    """Raise BadIdentifier unless ``user_id`` is one, by the historical grammar.

    With ``new`` the localpart must be one that a server may hand out today: ``a-z0-9._=-/+``.
    """
    localpart, _ = split_user_id(user_id)
    if new and not _NEW_LOCALPART.fullmatch(localpart):
        raise BadIdentifier("User names may only contain a-z, 0-9 and . _ = - / +")


def is_compliant_user_id(user_id: str) -> bool:
    """Whether the user ID may be shown to clients outside an event: its localpart is not empty and
    within U+0021 to U+007E. Source: "Historical User IDs".
    """
    try:
        localpart, _ = split_user_id(user_id)
    except BadIdentifier:
        return False
    return _COMPLIANT_LOCALPART.fullmatch(localpart) is not None


def split_room_alias(alias: str) -> tuple[str, str]:
    """``(localpart, server name)`` of a room alias. Raises BadIdentifier."""
    return _split(alias, "#", "room alias")


def check_room_alias(alias: str) -> None:
    """Raise BadIdentifier unless ``alias`` is a room alias."""
    split_room_alias(alias)


def check_room_id(room_id: str) -> None:
    """Raise BadIdentifier unless ``room_id`` is ``!opaque:domain`` or ``!`` and a hash.

    Source: "Room IDs"; the second form from room version 12 on.
    """
    if _HASH_LOCALPART.fullmatch(room_id, 1) and room_id[0] == "!":
        return
    _split(room_id, "!", "room ID")


def is_room_id(room_id: str) -> bool:
    """Whether text may be a room ID: see `check_room_id`."""
    try:
        check_room_id(room_id)
    except BadIdentifier:
        return False
    return True


def check_event_id(event_id: str) -> None:
    """Raise BadIdentifier unless ``event_id`` is ``$`` and something, within the size limit.

    Event IDs are opaque; what follows the sigil depends on the room version.
    """
    if not is_event_id(event_id):
        raise BadIdentifier(f"Not a valid event ID: expected $ and at most {MAX_ID_BYTES} bytes of UTF-8")


def is_event_id(event_id: str) -> bool:
    """Whether text may be an event ID: see `check_event_id`."""
    return len(event_id) > 1 and event_id[0] == "$" and "\0" not in event_id and not exceeds_bytes(event_id)


def is_namespaced(identifier: str) -> bool:
    """Whether text follows the Common Namespaced Identifier Grammar."""
    return _NAMESPACED.fullmatch(identifier) is not None


def is_opaque(identifier: str) -> bool:
    """Whether text follows the Opaque Identifier Grammar, as device IDs and transaction IDs do."""
    return _OPAQUE.fullmatch(identifier) is not None


def exceeds_bytes(text: str, limit_bytes: int = MAX_ID_BYTES) -> bool:
    """Whether text takes more bytes in UTF-8 than a limit; text without UTF-8 form always does."""
    if len(text) > limit_bytes:
        return True
    if text.isascii():
        return False
    try:
        return len(text.encode()) > limit_bytes
    except UnicodeEncodeError:
        return True


def _split(identifier: str, sigil: str, kind: str) -> tuple[str, str]:
    localpart, colon, server_name = identifier[1:].partition(":")
    if not colon or identifier[0] != sigil or "\0" in localpart:
        raise BadIdentifier(f"Not a valid {kind}: expected {sigil}localpart:server")
    if not _SERVER_NAME.fullmatch(server_name):
        raise BadIdentifier(f"Not a valid {kind}: the part after the colon is no server name")
    _check_size(identifier, kind)
    return localpart, server_name


def _check_size(identifier: str, kind: str) -> None:
    if exceeds_bytes(identifier):
        raise BadIdentifier(f"Not a valid {kind}: at most {MAX_ID_BYTES} bytes of UTF-8 are allowed")
