"""The node's secrets, each in a file of its own that only its owner may read."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from federation.errors import BadKey
from federation.keys import SigningKey, VerifyKey
from federation.server_keys import OldVerifyKey
from homeserver.config.load import ConfigError

POLICY_KEY_VERSION = "policy_server"  # Server-Server API, "Validating Policy Server signatures"


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


def load_policy_key(path: Path) -> SigningKey:
    """The key of a policy server, made if there is none: rooms name it, so nobody can know another one yet.

    Raises ConfigError, OSError.
    """
    if not path.exists():
        write_new_secret(path, SigningKey.generate(POLICY_KEY_VERSION).to_line())
    return load_signing_key(path)


def load_old_keys(path: Path) -> list[OldVerifyKey]:
    """The keys in ``path``, a line each: ``KEY_ID PUBLIC_KEY EXPIRED_MS``; none if there is no such file.

    Raises ConfigError.
    """
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: the old keys cannot be read: {error}") from error
    keys = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            key_id, text, expired_ms = line.split()
            keys.append(OldVerifyKey(VerifyKey.from_base64(key_id, text), int(expired_ms)))
        except (ValueError, BadKey) as error:
            raise ConfigError(
                f"{path}, line {number}: expected a key's ID, its public half, and when it ended"
            ) from error
    return keys


def rotate_signing_key(path: Path, old_path: Path, expired_ms: int) -> tuple[SigningKey, SigningKey]:
    """Put a new key in the place of the one in ``path``, and list that in ``old_path``.

    Returns the key before and the new one. The old one is listed first, so that it is never lost: a key
    that is listed and still in use counts as in use. Raises ConfigError, OSError.
    """
    before, new = load_signing_key(path), SigningKey.generate()
    load_old_keys(old_path)  # before anything is written
    staged = path.with_name(f"{path.name}.new")
    staged.unlink(missing_ok=True)  # of a rotation that was interrupted
    write_new_secret(staged, new.to_line())
    with old_path.open("a") as file:
        file.write(f"{before.key_id} {before.verify_key_base64} {expired_ms}\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(staged, path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return before, new
