"""``veche keys``: the key that signs this server's events and requests."""

from __future__ import annotations

from pathlib import Path

from homeserver.clock import now_ms
from homeserver.config.load import load_config
from homeserver.config.secrets import rotate_signing_key

GRACE_MS = 3600 * 1000
"""What the old key signs until the node is started again is still believed this long."""


def rotate(config_path: Path, *, stolen: bool) -> None:
    """Make a new signing key and list the old one as used before. Raises ConfigError, OSError.

    An old key that was ``stolen`` ends at once: whatever it signs from now on is not believed.
    """
    server = load_config(config_path).server
    key_path = Path(server.signing_key_file)
    expired_ms = now_ms() + (0 if stolen else GRACE_MS)
    before, new = rotate_signing_key(key_path, Path(server.old_keys_file), expired_ms)
    deadline = "now: others do not believe what it signs until then" if stolen else "within the hour"
    print(
        f"{key_path} holds the new key {new.key_id}; {before.key_id} is listed in {server.old_keys_file}.\n"
        f"Keep a copy of the new key in a safe place, and restart the server {deadline}."
    )
