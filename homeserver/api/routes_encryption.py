"""Routes of end-to-end encryption: keys, cross-signing, messages from device to device.

Guests may use those that "Guest Access" lists.
"""

from __future__ import annotations

from homeserver.api.client import cross_signing, dehydrated_devices, keys, to_device
from homeserver.api.router import Auth, Handler, Route

_V3 = "/_matrix/client/v3"
_UNSTABLE = "/_matrix/client/unstable"
_DEHYDRATED = "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device"


def _post(path: str, handler: Handler, auth: Auth, limit: str, under: str = _V3) -> Route:
    return Route(method="POST", path=f"{under}/keys/{path}", handler=handler, auth=auth, limit=limit)


def _dehydrated(method: str, handler: Handler, path: str = "") -> Route:
    return Route(method=method, path=f"{_DEHYDRATED}{path}", handler=handler, auth=Auth.USER, limit="keys")


ROUTES: tuple[Route, ...] = (
    # End-to-End Encryption › Key management API
    _post("upload", keys.upload_keys, Auth.GUEST, "keys"),
    _post("query", keys.query_keys, Auth.GUEST, "keys"),
    _post("claim", keys.claim_keys, Auth.GUEST, "keys"),
    Route(
        method="GET", path=f"{_V3}/keys/changes", handler=keys.get_keys_changes, auth=Auth.USER, limit="keys"
    ),
    # End-to-End Encryption › Cross-signing
    _post("device_signing/upload", cross_signing.upload_cross_signing_keys, Auth.USER, "keys"),
    _post("signatures/upload", cross_signing.upload_cross_signing_signatures, Auth.USER, "keys"),
    # the same as clients knew it before Matrix 1.1
    _post("device_signing/upload", cross_signing.upload_cross_signing_keys, Auth.USER, "keys", _UNSTABLE),
    _post("signatures/upload", cross_signing.upload_cross_signing_signatures, Auth.USER, "keys", _UNSTABLE),
    # Send-to-Device messaging
    Route(
        method="PUT",
        path=f"{_V3}/sendToDevice/{{eventType}}/{{txnId}}",
        handler=to_device.send_to_device,
        auth=Auth.GUEST,
        limit="to_device",
    ),
    # MSC3814
    _dehydrated("PUT", dehydrated_devices.put_dehydrated_device),
    _dehydrated("GET", dehydrated_devices.get_dehydrated_device),
    _dehydrated("DELETE", dehydrated_devices.delete_dehydrated_device),
    _dehydrated("POST", dehydrated_devices.get_dehydrated_events, "/{deviceId}/events"),
)
