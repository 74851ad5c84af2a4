"""Keys and messages of devices: what every client of an encrypted room makes its server do.

The keys are random text: servers do not look at them. Each workload works on a hundred devices of as many
users, as a room of a hundred people has them.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from typing import Any

from bench.client import V3, Client
from bench.load import Meter, closed_loop, gather_limited, latencies_ms
from bench.run import Run

DEVICES = 100
NEW_DEVICES = 400  # whose first upload is measured, after those of the hundred
CONCURRENCY = 8
CONCURRENCIES = (8, 32)  # as many clients as the shared benchmark's `send` has, of which the figures are
SECONDS = 6.0
FIRST_KEYS = 50  # one-time keys of a new device
MORE_KEYS = 10  # of a later upload
CLAIMS = 2 * FIRST_KEYS  # of a key of every device: there are at least so many
READ_EACH = 400  # messages that wait for each device when reading is measured
CONTENT_BYTES = 600  # about what a room key takes, encrypted for one device
_numbers = itertools.count()

Device = tuple[Client, str]
"""A logged-in user and the device's id."""


async def devices_of(run: Run) -> list[Device]:
    """A hundred users with keys, the same for all workloads of a pass."""
    known: list[Device] | None = getattr(run, "encryption_devices", None)
    if known is None:
        known = run.encryption_devices = await new_devices(run, DEVICES)
        await gather_limited(CONCURRENCY, (first_upload(device) for device in known))
    return known


async def new_devices(run: Run, count: int) -> list[Device]:
    """Devices without keys, of as many new users."""
    users = await run.server.register(count)
    answers = await gather_limited(CONCURRENCY, (user.call("GET", f"{V3}/account/whoami") for user in users))
    return [(user, answer["device_id"]) for user, answer in zip(users, answers, strict=True)]


async def first_upload(device: Device) -> float:
    """Seconds that the first upload of a device takes."""
    user, _ = device
    loop = asyncio.get_running_loop()
    begin = loop.time()
    await user.call(
        "POST",
        f"{V3}/keys/upload",
        {"device_keys": device_keys(device), "one_time_keys": one_time_keys(device, FIRST_KEYS)},
    )
    return loop.time() - begin


def device_keys(device: Device) -> dict[str, Any]:
    user, device_id = device
    return {
        "user_id": user.user_id,
        "device_id": device_id,
        "algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
        "keys": {f"{kind}:{device_id}": secrets.token_urlsafe(32) for kind in ("curve25519", "ed25519")},
        "signatures": {user.user_id: {f"ed25519:{device_id}": secrets.token_urlsafe(64)}},
    }


def one_time_keys(device: Device, count: int) -> dict[str, Any]:
    user, device_id = device
    signatures = {user.user_id: {f"ed25519:{device_id}": secrets.token_urlsafe(64)}}
    return {
        f"signed_curve25519:{next(_numbers):08}": {"key": secrets.token_urlsafe(32), "signatures": signatures}
        for _ in range(count)
    }


async def keys_upload(run: Run) -> None:
    """First uploads of new devices, then uploads of more one-time keys in a closed loop."""
    known = await devices_of(run)  # the first of all are no measure: they are what warms the server up
    newcomers = await new_devices(run, NEW_DEVICES)
    concurrency = CONCURRENCIES[-1]
    with Meter(run.server) as meter:
        latencies = await gather_limited(concurrency, (first_upload(device) for device in newcomers))
    metrics = {"uploads_per_s": NEW_DEVICES / meter.wall_s, **latencies_ms(latencies)}
    case = f"first, {FIRST_KEYS} keys, C={concurrency}"
    run.emit("keys_upload", case, {**metrics, **meter.metrics(NEW_DEVICES)})

    devices = itertools.cycle(known + newcomers)

    async def upload() -> None:
        device = next(devices)
        await device[0].call("POST", f"{V3}/keys/upload", {"one_time_keys": one_time_keys(device, MORE_KEYS)})

    for concurrency in CONCURRENCIES:
        result = await closed_loop([upload] * concurrency, SECONDS, Meter(run.server))
        run.emit("keys_upload", f"{MORE_KEYS} keys, C={concurrency}", result.metrics("uploads_per_s"))


async def keys_query(run: Run) -> None:
    """The devices of a hundred users, asked for by one of them, in a closed loop."""
    devices = await devices_of(run)
    body = {"device_keys": {user.user_id: [] for user, _ in devices}}
    askers = itertools.cycle(user for user, _ in devices)

    async def query() -> None:
        answer = await next(askers).call("POST", f"{V3}/keys/query", body)
        if len(answer["device_keys"]) != DEVICES:
            raise RuntimeError(f"{len(answer['device_keys'])} of {DEVICES} users' devices were answered")

    result = await closed_loop([query] * CONCURRENCY, SECONDS, Meter(run.server))
    run.emit("keys_query", f"{DEVICES} users, C={CONCURRENCY}", result.metrics("queries_per_s"))


async def keys_claim(run: Run) -> None:
    """A key of each of a hundred devices: claims by one at a time, and by eight at once.

    What counts are the requests. Synapse gives all keys to one claimer at a time; of eight at once it answers
    more, but gives them 15 % of the keys (`missing_keys`). By keys that would be measured by what it leaves
    undone: requests are the harder measure for who gives all.
    """
    devices = await devices_of(run)
    for concurrency in (1, CONCURRENCY):
        for _ in range(CLAIMS // FIRST_KEYS):
            await gather_limited(CONCURRENCY, (first_upload(device) for device in devices))
        await _claim_all(run, devices, concurrency)


async def _claim_all(run: Run, devices: list[Device], concurrency: int) -> None:
    wanted: dict[str, dict[str, str]] = {}
    for user, device_id in devices:
        wanted.setdefault(user.user_id, {})[device_id] = "signed_curve25519"
    latencies: list[float] = []
    claimed: list[str] = []

    async def claim(user: Client) -> None:
        loop = asyncio.get_running_loop()
        begin = loop.time()
        answer = await user.call("POST", f"{V3}/keys/claim", {"one_time_keys": wanted})
        latencies.append(loop.time() - begin)
        claimed.extend(
            f"{user_id} {name}"
            for user_id, of_user in answer["one_time_keys"].items()
            for keys in of_user.values()
            for name in keys
        )

    with Meter(run.server) as meter:
        await gather_limited(concurrency, (claim(user) for user, _ in devices[:CLAIMS]))
    if len(set(claimed)) != len(claimed):
        raise RuntimeError(f"{len(claimed) - len(set(claimed))} keys were given twice")
    metrics = {"keys_per_s": len(claimed) / meter.wall_s, "claims_per_s": CLAIMS / meter.wall_s}
    metrics |= {**latencies_ms(latencies), **meter.metrics(CLAIMS)}
    metrics["missing_keys"] = CLAIMS * DEVICES - len(claimed)
    run.emit("keys_claim", f"{DEVICES} devices, C={concurrency}", metrics)


async def to_device(run: Run) -> None:
    """Reading what waits for a hundred devices; then a message for each in a request, in a closed loop.

    Reading comes first: the loop leaves many times more behind in the database of a server that is quick. It
    is read at the end, unmeasured, and has to be all there.
    """
    devices = await devices_of(run)
    tokens = await gather_limited(CONCURRENCY, (user.sync() for user, _ in devices))
    since = {user.user_id: answer["next_batch"] for (user, _), answer in zip(devices, tokens, strict=True)}
    senders = itertools.cycle(user for user, _ in devices)
    text = "x" * CONTENT_BYTES
    unread = 0

    async def send() -> None:
        nonlocal unread
        messages = {
            user.user_id: {device_id: {"ciphertext": f"{text}{next(_numbers)}"}}
            for user, device_id in devices
        }
        path = f"{V3}/sendToDevice/m.room.encrypted/b{next(_numbers)}"
        await next(senders).call("PUT", path, {"messages": messages})
        unread += DEVICES

    async def read(user: Client) -> int:
        count = 0
        while True:
            answer = await user.sync(since[user.user_id])
            since[user.user_id] = answer["next_batch"]
            events = answer.get("to_device", {}).get("events", [])
            if not events:
                return count
            count += len(events)

    async def read_all() -> None:
        nonlocal unread
        count = sum(await gather_limited(CONCURRENCIES[-1], (read(user) for user, _ in devices)))
        if count != unread:
            raise RuntimeError(f"{count} of {unread} messages were read")
        unread = 0

    await gather_limited(CONCURRENCY, (send() for _ in range(READ_EACH)))
    to_read = unread
    with Meter(run.server) as meter:
        await read_all()
    metrics = {"messages_per_s": to_read / meter.wall_s, **meter.metrics(to_read)}
    run.emit("to_device", f"read {READ_EACH} each, C={CONCURRENCIES[-1]}", metrics)
    for concurrency in CONCURRENCIES:
        result = await closed_loop([send] * concurrency, SECONDS, Meter(run.server))
        run.emit("to_device", f"send to {DEVICES}, C={concurrency}", result.metrics("requests_per_s"))
    await read_all()
