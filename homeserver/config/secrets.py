"""The node's secrets, each in a file of its own that only its owner may read."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from federation.errors import BadKey
from federation.keys import SigningKey
from homeserver.config.load import ConfigError


def write_new_secret(path: Path, text: str) -> None:
    """Write one line into a new file of mode 0600, durably. Raises FileExistsError: none is ever replaced."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(f"{text}\n")
        file.flush()
        os.fsync(fd)


def new_shared_secret() -> str:
    """256 random bits, as 43 characters that need no quoting anywhere."""
    return secrets.token_urlsafe(32)


def load_signing_key(path: Path) -> SigningKey:
    """The key in ``path``: one line, ``ed25519 VERSION SEED``. Raises ConfigError, never showing the key."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not text"
        raise ConfigError(
            f"{path}: the signing key cannot be read ({reason}). Restore it from your copy; `veche init` "
            "makes one for a new server, but a known server with a new key is distrusted by others"
        ) from error
    try:
        return SigningKey.from_line(text)
    except BadKey as error:
        raise ConfigError(f"{path}: is no signing key: {error}") from error
