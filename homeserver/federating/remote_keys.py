"""Keys as other servers give them: what has the right form is taken, all else left out. Pure."""

from __future__ import annotations

import orjson

from federation.canonical import JsonObject
from homeserver.accounts.sessions import DISPLAY_NAME_LENGTH_MAX
from homeserver.encryption.key_claims import ClaimedKeys, WantedKeys
from homeserver.encryption.key_json import (
    encode_key,
    read_cross_signing_key,
    read_device_keys,
    read_one_time_keys,
)
from homeserver.encryption.key_queries import FoundKeys, Wanted, json_object
from homeserver.errors import MatrixError
from homeserver.storage.cross_signing import MASTER, SELF_SIGNING

DEVICE_ID_LENGTH_MAX = 255


def checked_device(keys: object, user_id: str, device_id: str, name: object) -> bytes | None:
    """Device keys, encoded with the device's name as ``unsigned``; None if their form is wrong."""
    if len(device_id) > DEVICE_ID_LENGTH_MAX or "\x00" in device_id:
        return None
    try:
        checked = read_device_keys(keys, user_id, device_id)
    except MatrixError:
        return None
    # as `encode_device` has it for our own devices
    checked["unsigned"] = (
        {"device_display_name": name[:DISPLAY_NAME_LENGTH_MAX]} if isinstance(name, str) else {}
    )
    return encode_key(checked)


def checked_cross_signing_key(key: object, user_id: str, usage: str) -> bytes | None:
    """A cross-signing key, encoded; None if there is none, or its form is wrong."""
    if key is None:
        return None
    try:
        return encode_key(read_cross_signing_key(key, user_id, usage).json)
    except MatrixError:
        return None


def add_answer(found: FoundKeys, answer: JsonObject, wanted: Wanted) -> None:
    """Add what a server answered of its users in a query, as far as it was asked for."""
    devices = answer.get("device_keys")
    for user_id, device_ids in wanted.items():
        of_user = devices.get(user_id) if isinstance(devices, dict) else None
        if isinstance(of_user, dict):
            found.devices[user_id] = json_object(
                {
                    device_id: encoded
                    for device_id, keys in of_user.items()
                    if (not device_ids or device_id in device_ids)
                    and (encoded := checked_device(keys, user_id, device_id, _name(keys))) is not None
                }
            )
        for field, usage, into in (
            ("master_keys", MASTER, found.master),
            ("self_signing_keys", SELF_SIGNING, found.self_signing),
        ):
            keys = answer.get(field)
            key = keys.get(user_id) if isinstance(keys, dict) else None
            encoded = checked_cross_signing_key(key, user_id, usage)
            if encoded is not None:
                into[user_id] = encoded


def add_claimed(found: ClaimedKeys, answer: JsonObject, wanted: WantedKeys) -> None:
    """Add the keys that a server gave, one for each device that was asked for."""
    keys = answer.get("one_time_keys")
    for user_id, devices in wanted.items():
        of_user = keys.get(user_id) if isinstance(keys, dict) else None
        for device_id, algorithm in devices.items():
            of_device = of_user.get(device_id) if isinstance(of_user, dict) else None
            try:
                checked = read_one_time_keys(of_device, "one_time_keys")
            except MatrixError:
                continue
            for (of_algorithm, key_id), json in checked.items():
                if of_algorithm == algorithm:
                    key = {f"{algorithm}:{key_id}": orjson.Fragment(json)}
                    found.setdefault(user_id, {})[device_id] = key
                    break


def _name(keys: object) -> object:
    """The device's name in its keys, whatever that is."""
    unsigned = keys.get("unsigned") if isinstance(keys, dict) else None
    return unsigned.get("device_display_name") if isinstance(unsigned, dict) else None
