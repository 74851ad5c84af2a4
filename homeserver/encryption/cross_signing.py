"""Cross-signing: users publish their keys, and sign devices and each other's keys with them.

Source: Client-Server API, "Cross-signing".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson

from federation.canonical import JsonObject
from homeserver.commit_log.log import CommitLog
from homeserver.encryption.device_lists import DeviceLists
from homeserver.encryption.key_json import (
    CrossSigningKey,
    check_signed_by,
    encode_key,
    read_cross_signing_key,
)
from homeserver.errors import Forbidden, MissingParam
from homeserver.keyed_locks import KeyedLocks
from homeserver.requester import Requester
from homeserver.storage.connection import Pool
from homeserver.storage.cross_signing import (
    MASTER,
    USAGES,
    USER_SIGNING,
    CrossSigningChange,
    fetch_cross_signing_keys,
)
from homeserver.storage.device_keys import have_devices


@dataclass(frozen=True, slots=True)
class CrossSigning:
    """Takes cross-signing keys in. What changes one user's keys goes one after the other."""

    pool: Pool
    log: CommitLog
    device_lists: DeviceLists
    locks: KeyedLocks[int] = field(default_factory=KeyedLocks)

    async def needs_confirmation(self, requester: Requester, body: JsonObject) -> bool:
        """Whether the user has to prove who they are before `upload`. Raises as `upload` for bad keys.

        Not where "there is no existing master signing key", nor where "the request contains no new keys".
        """
        return _is_new(await self._stored(requester), _read(requester, body))

    async def upload(self, requester: Requester, body: JsonObject, *, confirmed: bool) -> None:
        """`uploadCrossSigningKeys`. A new master key ends those that the old one signed.

        ``confirmed`` says that the user has proved who they are, if `needs_confirmation` wanted it.

        Raises BadJson, InvalidParam, TooLarge, MissingParam (no master key), InvalidSignature, Forbidden (a
        key that is the id of one of the user's devices).
        """
        given = _read(requester, body)
        if not given:
            return
        async with self.locks.hold(requester.user_nid):
            stored = await self._stored(requester)
            if not confirmed and _is_new(stored, given):  # another request was faster
                raise Forbidden("Other keys have been published just now: send the request again")
            master = given.get(MASTER) or stored.get(MASTER)
            if master is None:
                raise MissingParam("Upload a master_key first, or together with the others")
            for usage, key in given.items():
                if usage != MASTER:
                    check_signed_by(key.json, requester.user_id, master.verify_key)
            if await have_devices(self.pool, requester.user_nid, [key.public for key in given.values()]):
                raise Forbidden("A key cannot be the same as the id of one of your devices")
            change = _change(requester, stored, given)
            if change.keys:
                # "a user-signing key (USK) -- only visible to the user that it belongs to"
                is_private = change.keys.keys() == {USER_SIGNING}
                await self.device_lists.commit(
                    requester.user_id, requester.user_nid, (change,), is_private=is_private
                )

    async def _stored(self, requester: Requester) -> dict[str, CrossSigningKey]:
        found = await fetch_cross_signing_keys(self.pool, (requester.user_id,))
        return {usage: stored_key(json) for usage, json in found.get(requester.user_id, {}).items()}


def stored_key(json: bytes) -> CrossSigningKey:
    """A cross-signing key that was checked when it came."""
    key = orjson.loads(json)
    [public] = key["keys"].values()
    return CrossSigningKey(public, key)


def _read(requester: Requester, body: JsonObject) -> dict[str, CrossSigningKey]:
    return {
        usage: read_cross_signing_key(body[f"{usage}_key"], requester.user_id, usage)
        for usage in USAGES
        if body.get(f"{usage}_key") is not None
    }


def _is_new(stored: Mapping[str, CrossSigningKey], given: Mapping[str, CrossSigningKey]) -> bool:
    """Whether keys would replace others, or stand beside those of a published identity."""
    if MASTER not in stored:
        return False
    return any(usage not in stored or stored[usage].public != key.public for usage, key in given.items())


def _change(
    requester: Requester, stored: Mapping[str, CrossSigningKey], given: Mapping[str, CrossSigningKey]
) -> CrossSigningChange:
    """What to write. A key that is there already stays, with the signatures that it got since."""
    new = {
        usage: key
        for usage, key in given.items()
        if usage not in stored or stored[usage].public != key.public
    }
    if MASTER in new:  # what it signed of the others is another signature than there was
        new = dict(given)
    keys: dict[str, bytes | None] = {usage: encode_key(key.json) for usage, key in new.items()}
    if MASTER in new:
        for usage in stored:
            if usage not in given:
                keys[usage] = None
    return CrossSigningChange(requester.user_nid, keys, forgets_signatures=USER_SIGNING in keys)
