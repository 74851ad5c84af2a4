"""From what people type as their name to user ids of this node.

Source: Appendices, "User Identifiers"; Client-Server API, "Identifier types".
"""

from __future__ import annotations

import secrets

from federation.errors import BadIdentifier
from federation.identifiers import check_user_id
from homeserver.errors import MatrixError

_RANDOM_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"  # without what is easily mistaken for another
_RANDOM_LENGTH = 12


class InvalidUsername(MatrixError):
    """A user name that no user id can be made of."""

    errcode = "M_INVALID_USERNAME"


class UserInUse(MatrixError):
    """The user id is taken."""

    errcode = "M_USER_IN_USE"


def new_user_id(username: str, server_name: str) -> str:
    """The user id for a wanted name, in lower case ("requiring homeservers to downcase usernames when
    creating user IDs"). Raises InvalidUsername.
    """
    user_id = f"@{username.lower()}:{server_name}"
    try:
        check_user_id(user_id, new=True)
    except BadIdentifier as cause:
        raise InvalidUsername(str(cause)) from cause
    return user_id


def random_user_id(server_name: str) -> str:
    """A user id for who asked for no name in particular."""
    localpart = "".join(secrets.choice(_RANDOM_ALPHABET) for _ in range(_RANDOM_LENGTH))
    return f"@{localpart}:{server_name}"


def known_user_id(text: str, server_name: str) -> str | None:
    """The user id that a user id or a localpart means here; None if it belongs to another server."""
    text = text.strip()
    if not text.startswith("@"):
        return f"@{text.lower()}:{server_name}"
    localpart, _, server = text.partition(":")
    if server != server_name:
        return None
    return f"{localpart.lower()}:{server_name}"


def is_local(user_id: str, server_name: str) -> bool:
    """Whether a user id belongs to this node."""
    return user_id.startswith("@") and user_id.partition(":")[2] == server_name


def localpart_of(user_id: str) -> str:
    """The name in a user id."""
    return user_id[1:].partition(":")[0]
