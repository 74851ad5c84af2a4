"""Routes of server-side key backups. Source: Client-Server API, "Server-side key backups"."""

from __future__ import annotations

from homeserver.api.client import key_backup
from homeserver.api.router import Auth, Handler, Route
from homeserver.encryption.key_backup import UPLOAD_BYTES_MAX

_KEYS = "/_matrix/client/v3/room_keys/keys"
_VERSION = "/_matrix/client/v3/room_keys/version"


def _get(path: str, handler: Handler) -> Route:
    return Route(method="GET", path=path, handler=handler, auth=Auth.USER)


def _edit(method: str, path: str, handler: Handler, body_max_bytes: int | None = None) -> Route:
    return Route(
        method=method,
        path=path,
        handler=handler,
        auth=Auth.USER,
        limit="user_data",
        body_max_bytes=body_max_bytes,
    )


ROUTES: tuple[Route, ...] = (
    _edit("POST", _VERSION, key_backup.post_room_keys_version),
    _get(_VERSION, key_backup.get_room_keys_version_current),
    _get(f"{_VERSION}/{{version}}", key_backup.get_room_keys_version),
    _edit("PUT", f"{_VERSION}/{{version}}", key_backup.put_room_keys_version),
    _edit("DELETE", f"{_VERSION}/{{version}}", key_backup.delete_room_keys_version),
    _edit("PUT", _KEYS, key_backup.put_room_keys, UPLOAD_BYTES_MAX),
    _get(_KEYS, key_backup.get_room_keys),
    _edit("DELETE", _KEYS, key_backup.delete_room_keys),
    _edit("PUT", f"{_KEYS}/{{roomId}}", key_backup.put_room_keys_by_room_id, UPLOAD_BYTES_MAX),
    _get(f"{_KEYS}/{{roomId}}", key_backup.get_room_keys_by_room_id),
    _edit("DELETE", f"{_KEYS}/{{roomId}}", key_backup.delete_room_keys_by_room_id),
    _edit("PUT", f"{_KEYS}/{{roomId}}/{{sessionId}}", key_backup.put_room_key_by_session_id),
    _get(f"{_KEYS}/{{roomId}}/{{sessionId}}", key_backup.get_room_key_by_session_id),
    _edit("DELETE", f"{_KEYS}/{{roomId}}/{{sessionId}}", key_backup.delete_room_key_by_session_id),
)
