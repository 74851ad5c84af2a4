"""Keys such as clients make: real signatures, for devices that never encrypt anything."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

from federation.encoding import encode_base64
from federation.keys import SigningKey
from federation.signing import sign_json
from tests.api.client import User

JsonObject = dict[str, Any]
_numbers = itertools.count(1)


@dataclass
class DeviceCrypto:
    """The keys of one logged-in device."""

    user: User
    signing: SigningKey = field(init=False)

    def __post_init__(self) -> None:
        self.signing = SigningKey.generate("1")

    @property
    def key_id(self) -> str:
        return f"ed25519:{self.user.device_id}"

    @property
    def public(self) -> str:
        return self.signing.verify_key.base64

    def sign(self, value: JsonObject) -> JsonObject:
        return signed(value, self.user.user_id, self.key_id, self.signing)

    def device_keys(self) -> JsonObject:
        device_id = self.user.device_id
        return self.sign(
            {
                "user_id": self.user.user_id,
                "device_id": device_id,
                "algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
                "keys": {self.key_id: self.public, f"curve25519:{device_id}": random_key()},
            }
        )

    def one_time_keys(self, count: int) -> JsonObject:
        """Keys in the order in which they are made."""
        return {
            f"signed_curve25519:{next(_numbers):06}": self.sign({"key": random_key()}) for _ in range(count)
        }

    def fallback_key(self) -> JsonObject:
        name = f"signed_curve25519:fallback{next(_numbers)}"
        return {name: self.sign({"key": random_key(), "fallback": True})}

    async def upload(self, **body: object) -> JsonObject:
        """Publish the device's keys, and what else is given; the counts."""
        answer = await self.user.post("/v3/keys/upload", json={"device_keys": self.device_keys(), **body})
        counts: JsonObject = answer["one_time_key_counts"]
        return counts


@dataclass
class Identity:
    """A user's cross-signing keys."""

    user_id: str
    master: SigningKey = field(default_factory=lambda: SigningKey.generate("m"))
    self_signing: SigningKey = field(default_factory=lambda: SigningKey.generate("s"))
    user_signing: SigningKey = field(default_factory=lambda: SigningKey.generate("u"))

    def keys(self) -> JsonObject:
        """The body of the upload."""
        return {
            "master_key": self._key("master", self.master),
            "self_signing_key": self.by_master(self._key("self_signing", self.self_signing)),
            "user_signing_key": self.by_master(self._key("user_signing", self.user_signing)),
        }

    def _key(self, usage: str, key: SigningKey) -> JsonObject:
        public = key.verify_key.base64
        return {"user_id": self.user_id, "usage": [usage], "keys": {f"ed25519:{public}": public}}

    def by_master(self, value: JsonObject) -> JsonObject:
        return signed(value, self.user_id, f"ed25519:{self.master.verify_key.base64}", self.master)

    def by_self_signing(self, value: JsonObject) -> JsonObject:
        key = self.self_signing
        return signed(value, self.user_id, f"ed25519:{key.verify_key.base64}", key)

    def by_user_signing(self, value: JsonObject) -> JsonObject:
        key = self.user_signing
        return signed(value, self.user_id, f"ed25519:{key.verify_key.base64}", key)


def signed(value: JsonObject, user_id: str, key_id: str, key: SigningKey) -> JsonObject:
    """A value with a signature under a name of our choice."""
    by_own_name = sign_json({**value, "signatures": {}}, user_id, key)
    signature = by_own_name["signatures"][user_id][key.key_id]
    signatures = value.get("signatures", {})
    return {
        **value,
        "signatures": {**signatures, user_id: {**signatures.get(user_id, {}), key_id: signature}},
    }


def random_key() -> str:
    return encode_base64(SigningKey.generate("x").verify_key.public_bytes)


async def device_keys_of(asker: User, user_id: str) -> JsonObject:
    """The answer of a query, whole."""
    answer: JsonObject = await asker.post("/v3/keys/query", json={"device_keys": {user_id: []}})
    return answer


async def devices_of(asker: User, user_id: str) -> JsonObject:
    """The keys of the user's devices, by device."""
    answer = await device_keys_of(asker, user_id)
    devices: JsonObject = answer["device_keys"].get(user_id, {})
    return devices


async def claim(asker: User, *devices: User, algorithm: str = "signed_curve25519") -> JsonObject:
    """The claimed keys by user and device."""
    wanted: JsonObject = {}
    for device in devices:
        wanted.setdefault(device.user_id, {})[device.device_id] = algorithm
    answer = await asker.post("/v3/keys/claim", json={"one_time_keys": wanted})
    keys: JsonObject = answer["one_time_keys"]
    return keys


def to_device_of(sync: JsonObject) -> list[JsonObject]:
    events: list[JsonObject] = sync.get("to_device", {}).get("events", [])
    return events


def changed_of(sync: JsonObject) -> set[str]:
    return set(sync.get("device_lists", {}).get("changed", []))


def left_of(sync: JsonObject) -> set[str]:
    return set(sync.get("device_lists", {}).get("left", []))
