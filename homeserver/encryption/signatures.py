"""Signatures on keys that were published before: `uploadCrossSigningSignatures`.

Users sign their own devices with their self-signing key, and their own master key with devices: everyone
sees that. They sign others' master keys with their user-signing key: nobody else sees that.
Source: Client-Server API, "Cross-signing", cross_signing.yaml.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field

import orjson

from federation.canonical import JsonObject
from federation.errors import FederationError
from federation.keys import VerifyKey
from homeserver.commit_log.change import Change
from homeserver.commit_log.log import CommitLog
from homeserver.encryption.cross_signing import CrossSigning, stored_key
from homeserver.encryption.device_lists import DeviceLists
from homeserver.encryption.key_json import check_signed_by, covered, encode_key, merge_signatures
from homeserver.encryption.to_device_sending import is_user_id
from homeserver.errors import BadJson, InvalidSignature, MatrixError, NotFound, TooLarge
from homeserver.requester import Requester
from homeserver.storage.connection import Pool
from homeserver.storage.cross_signing import (
    MASTER,
    SELF_SIGNING,
    USER_SIGNING,
    CrossSigningChange,
    UserSignature,
    UserSignaturesChange,
    fetch_cross_signing_keys,
)
from homeserver.storage.device_keys import DeviceKeysChange, fetch_device_nids, fetch_keys_of_users

SIGNED_MAX = 1000  # keys in one request

Failures = dict[str, dict[str, JsonObject]]
MasterKeys = Callable[[Collection[str]], Awaitable[Mapping[str, bytes]]]
"""Reads the master keys of users, who may be on other servers, as far as they can be had; JSON."""


@dataclass(slots=True)
class _Own:
    """What a user has published, and what is made of it: device keys by device id."""

    device_nids: dict[str, int]
    devices: dict[str, JsonObject]
    cross_signing: dict[str, bytes]
    signed_devices: dict[str, JsonObject] = field(default_factory=dict)
    signed_master: JsonObject | None = None


@dataclass(frozen=True, slots=True)
class Signatures:
    """Checks signatures and keeps them. ``cross_signing`` has the locks of what changes a user's keys."""

    pool: Pool
    log: CommitLog
    device_lists: DeviceLists
    cross_signing: CrossSigning
    master_keys: MasterKeys

    async def upload(self, requester: Requester, body: JsonObject) -> Failures:
        """Keep the signatures that are right; errors for the others, by user and key id.

        Raises BadJson, TooLarge.
        """
        signed = _read(body)
        failures: Failures = {}
        async with self.cross_signing.locks.hold(requester.user_nid):
            own = await self._own(requester)
            for key_id, key in signed.pop(requester.user_id, {}).items():
                try:
                    _sign_own(own, requester.user_id, key_id, key)
                except MatrixError as error:
                    failures.setdefault(requester.user_id, {})[key_id] = error.body()
            changes, device_ids = _changes(own, requester)
            if changes:
                await self.device_lists.commit(requester.user_id, requester.user_nid, changes, device_ids)
            await self._sign_others(requester, own, signed, failures)
        return failures

    async def _sign_others(
        self,
        requester: Requester,
        own: _Own,
        signed: Mapping[str, Mapping[str, JsonObject]],
        failures: Failures,
    ) -> None:
        users = [user_id for user_id in signed if is_user_id(user_id)]
        masters = await self.master_keys(users) if users else {}
        made: list[UserSignature] = []
        for user_id, keys in signed.items():
            master = masters.get(user_id)
            for key_id, key in keys.items():
                try:
                    made.append(_sign_other(own, requester.user_id, user_id, key_id, key, master))
                except MatrixError as error:
                    failures.setdefault(user_id, {})[key_id] = error.body()
        if made:
            await self.log.commit(UserSignaturesChange(requester.user_id, requester.user_nid, made))

    async def _own(self, requester: Requester) -> _Own:
        users = (requester.user_id,)
        return _Own(
            (await fetch_device_nids(self.pool, users)).get(requester.user_id, {}),
            {row.device_id: orjson.loads(row.json) for row in await fetch_keys_of_users(self.pool, users)},
            (await fetch_cross_signing_keys(self.pool, users)).get(requester.user_id, {}),
        )


def _read(body: JsonObject) -> dict[str, dict[str, JsonObject]]:
    count = 0
    for keys in body.values():
        if not isinstance(keys, dict) or not all(isinstance(key, dict) for key in keys.values()):
            raise BadJson("The body must map user ids to key ids to signed keys")
        count += len(keys)
    if count > SIGNED_MAX:
        raise TooLarge(f"{SIGNED_MAX} signed keys at most can be uploaded at once")
    return dict(body)


def _sign_own(own: _Own, user_id: str, key_id: str, signed: JsonObject) -> None:
    """Add the signatures to the user's own device or master key. Raises NotFound, InvalidSignature."""
    if key_id in own.devices:
        known = own.signed_devices.get(key_id, own.devices[key_id])
        _check_same(known, signed)
        signer = _cross_signing_key(own, SELF_SIGNING)
        own.signed_devices[key_id] = _with_checked(known, signed, user_id, [signer])
        return
    if MASTER not in own.cross_signing or stored_key(own.cross_signing[MASTER]).public != key_id:
        raise NotFound("You have published no such key")
    known_master = own.signed_master or orjson.loads(own.cross_signing[MASTER])
    _check_same(known_master, signed)
    own.signed_master = _with_checked(known_master, signed, user_id, _device_signers(own, user_id, signed))


def _sign_other(
    own: _Own, user_id: str, target: str, key_id: str, signed: JsonObject, master: bytes | None
) -> UserSignature:
    """The user's signature on somebody else's master key. Raises NotFound, InvalidSignature."""
    if master is None or stored_key(master).public != key_id:
        raise NotFound("The user has no such master key")
    _check_same(orjson.loads(master), signed)
    signer = _cross_signing_key(own, USER_SIGNING)
    check_signed_by(signed, user_id, signer)
    signature: str = signed["signatures"][user_id][signer.key_id]
    return UserSignature(target, key_id, signer.key_id, signature)


def _check_same(known: JsonObject, signed: JsonObject) -> None:
    if covered(known) != covered(signed):
        raise InvalidSignature("This is not the key that was published")


def _cross_signing_key(own: _Own, usage: str) -> VerifyKey:
    if usage not in own.cross_signing:
        raise NotFound(f"You have published no {usage} key")
    return stored_key(own.cross_signing[usage]).verify_key


def _device_signers(own: _Own, user_id: str, signed: JsonObject) -> list[VerifyKey]:
    """The keys of the user's devices that claim to have signed. Raises NotFound, InvalidSignature."""
    made = signed.get("signatures")
    made = made.get(user_id) if isinstance(made, dict) else None
    signers: list[VerifyKey] = []
    for name in made if isinstance(made, dict) else ():
        device = own.devices.get(name.partition(":")[2])
        if device is not None and isinstance(key := device["keys"].get(name), str):
            try:
                signers.append(VerifyKey.from_base64(name, key))
            except FederationError as cause:
                raise InvalidSignature("The device that signed has no ed25519 key") from cause
    if not signers:
        raise NotFound("No device of yours has signed this")
    return signers


def _with_checked(
    known: JsonObject, signed: JsonObject, user_id: str, signers: list[VerifyKey]
) -> JsonObject:
    for signer in signers:
        check_signed_by(signed, user_id, signer)
    made = {signer.key_id: signed["signatures"][user_id][signer.key_id] for signer in signers}
    return merge_signatures(known, {user_id: made})


def _changes(own: _Own, requester: Requester) -> tuple[list[Change], list[str]]:
    """What to write of the user's own keys, and the ids of the devices among them."""
    changes: list[Change] = []
    device_ids: list[str] = []
    for device_id, key in own.signed_devices.items():
        if key != own.devices[device_id]:
            nid = own.device_nids[device_id]
            changes.append(DeviceKeysChange(nid, device_id, encode_key(key)))
            device_ids.append(device_id)
    if own.signed_master is not None:
        encoded = encode_key(own.signed_master)
        if encoded != own.cross_signing[MASTER]:
            changes.append(CrossSigningChange(requester.user_nid, {MASTER: encoded}))
    return changes, device_ids
