"""Device lists of other servers' users: asking for them, and asking again where an update was missed.

Which lists are to be asked for stands in the database, so it survives a restart. A list that is to be asked
for does not count: whoever wants it meanwhile asks its server.
Source: Server-Server API, "Device Management".
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TypeGuard

import structlog

from federation.canonical import INTEGER_MAX, JsonObject
from federation.transport.client import FederationClient, path_of
from federation.transport.errors import BackingOff, BadResponse, RequestFailed
from homeserver.clock import Clock, now_ms
from homeserver.commit_log.change import Change
from homeserver.commit_log.log import CommitLog
from homeserver.encryption.device_lists import DeviceLists
from homeserver.errors import MatrixError
from homeserver.federating.remote_keys import checked_cross_signing_key, checked_device
from homeserver.keyed_locks import KeyedLocks
from homeserver.storage import remote_devices as sql
from homeserver.storage.connection import Pool
from homeserver.storage.cross_signing import (
    MASTER,
    SELF_SIGNING,
    CrossSigningChange,
    fetch_cross_signing_keys,
)
from homeserver.storage.remote_devices import ListMoved, RemoteList, RemoteListChange

log = structlog.get_logger()

DEVICES = "/_matrix/federation/v1/user/devices/{}"
DEVICES_MAX = 5_000  # of one user
TIMEOUT_S = 30.0
AT_ONCE = 10
DUE_AT_ONCE = 100
IDLE_S = 60.0
RETRY_MIN_MS = 5_000
RETRY_MAX_MS = 6 * 3600 * 1000
ATTEMPTS = 3  # at once, where updates come while the list is asked for


@dataclass(frozen=True, slots=True)
class Answered:
    """A user's list as its server has it."""

    stream_id: int
    devices: dict[str, bytes]
    cross_signing: dict[str, bytes]


@dataclass(frozen=True, slots=True)
class RemoteLists:
    """Asks for lists, one request a user at a time."""

    pool: Pool
    log: CommitLog
    device_lists: DeviceLists
    client: FederationClient
    clock: Clock = now_ms
    locks: KeyedLocks[str] = field(default_factory=KeyedLocks)
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    async def want(self, user_ids: Collection[str]) -> None:
        """Have lists asked for in the background."""
        if user_ids:
            await sql.want_lists(self.pool, user_ids)
            self.wake.set()

    async def refresh(self, user_id: str, timeout_s: float = TIMEOUT_S) -> None:
        """Ask for a user's list now, unless somebody just has. Raises RequestFailed."""
        async with self.locks.hold(user_id):
            if await sql.fetch_known_lists(self.pool, (user_id,)):
                return
            for _ in range(ATTEMPTS):
                known = await sql.begin_asking(self.pool, user_id)
                try:
                    await self._ask(user_id, known, timeout_s)
                    return
                except ListMoved:
                    continue
            self.wake.set()

    async def _ask(self, user_id: str, known: RemoteList, timeout_s: float) -> None:
        """One request, and what it brings. Raises RequestFailed, ListMoved."""
        asked_at = self.log.position
        server = user_id.partition(":")[2]
        answer = await self.client.request(server, "GET", path_of(DEVICES, user_id), timeout_s=timeout_s)
        answered = _read(server, user_id, answer)
        stored = (await sql.fetch_remote_devices(self.pool, (known.user_nid,))).get(known.user_nid, {})
        keys = (await fetch_cross_signing_keys(self.pool, (user_id,))).get(user_id, {})
        gone: dict[str, bytes | None] = {usage: None for usage in keys if usage not in answered.cross_signing}
        changes: tuple[Change, ...] = (
            RemoteListChange(
                known.user_nid, known.updates or 0, asked_at, answered.stream_id, answered.devices
            ),
            CrossSigningChange(known.user_nid, {**gone, **answered.cross_signing}),
        )
        if stored != answered.devices or keys != answered.cross_signing:
            # also where it is the first: somebody may have asked for it before, and got nothing
            await self.device_lists.commit(user_id, known.user_nid, changes)
        else:
            await self.log.commit(*changes)

    async def run(self) -> None:
        """Ask for what is wanted, and again, later and later, where that fails; for the supervisor."""
        turns = asyncio.Semaphore(AT_ONCE)
        while True:
            self.wake.clear()
            due = await sql.fetch_due(self.pool, self.clock(), DUE_AT_ONCE)
            async with asyncio.TaskGroup() as tries:
                for user_id, is_shared in due:
                    tries.create_task(self._try(user_id, is_shared, turns))
            if not due:
                await self._sleep()

    async def _sleep(self) -> None:
        next_due = await sql.fetch_next_due_ms(self.pool)
        seconds = IDLE_S if next_due is None else min(IDLE_S, max(0.05, (next_due - self.clock()) / 1000))
        try:
            async with asyncio.timeout(seconds):
                await self.wake.wait()
        except TimeoutError:
            pass

    async def _try(self, user_id: str, is_shared: bool, turns: asyncio.Semaphore) -> None:
        try:
            if not is_shared:  # nobody here is told of updates any more
                await sql.forget_list(self.pool, user_id)
                return
            async with turns:
                await self.refresh(user_id)
        except Exception as cause:  # whatever it was, it concerns this list alone, which is tried again
            await self._put_off(user_id, cause)

    async def _put_off(self, user_id: str, cause: Exception) -> None:
        """Try again later. Raises what the database raises, if it is away: then no list can be had."""
        now = self.clock()
        failures = await sql.fetch_failures(self.pool, user_id)
        known = await sql.fetch_list(self.pool, user_id) if failures == 0 else None
        if known is not None and known.is_shared:  # what clients have of it is old, though nobody has the new
            await self.device_lists.commit(user_id, known.user_nid, ())
        retry_at_ms = now + min(RETRY_MAX_MS, RETRY_MIN_MS << min(failures, 20))
        if isinstance(cause, BackingOff):
            retry_at_ms = min(retry_at_ms, max(cause.retry_at_ms, now + RETRY_MIN_MS))
        elif isinstance(cause, RequestFailed) and not cause.may_retry:
            retry_at_ms = now + RETRY_MAX_MS
        if isinstance(cause, RequestFailed | MatrixError):
            log.info("device list not had", user_id=user_id, cause=str(cause))
        else:
            log.error("device list not taken in", user_id=user_id, exc_info=cause)
        await sql.note_failure(self.pool, user_id, retry_at_ms)


def _read(server: str, user_id: str, answer: JsonObject) -> Answered:
    """The answer of `getUserDevices`; devices whose form is wrong are left out. Raises BadResponse."""
    stream_id, devices = answer.get("stream_id"), answer.get("devices")
    if answer.get("user_id") != user_id or not is_stream_id(stream_id) or not isinstance(devices, list):
        raise BadResponse(server, "answered with what is no list of devices")
    if len(devices) > DEVICES_MAX:
        raise BadResponse(server, f"answered with more than {DEVICES_MAX} devices")
    found: dict[str, bytes] = {}
    for device in devices:
        device_id = device.get("device_id") if isinstance(device, dict) else None
        if isinstance(device_id, str):
            keys = checked_device(device.get("keys"), user_id, device_id, device.get("device_display_name"))
            if keys is not None:
                found[device_id] = keys
    cross_signing: dict[str, bytes] = {}
    for usage in (MASTER, SELF_SIGNING):
        key = checked_cross_signing_key(answer.get(f"{usage}_key"), user_id, usage)
        if key is not None:
            cross_signing[usage] = key
    return Answered(stream_id, found, cross_signing)


def is_stream_id(value: object) -> TypeGuard[int]:
    """Whether a value can be an id of an update."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= INTEGER_MAX
