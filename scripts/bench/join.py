"""What it costs to join a large room of another company.

    scripts/bench/join [--members N] [--passes N] [--whole]

Two nodes, each with a database of its own, that speak TLS with each other. The first has a room of 10,000
members for each pass, each event of which went through its engine: authorised, signed, stored. In each pass
another second node starts anew, and one of its users joins a room. Printed are, for the joining side,

- until /join is answered: the time, and the CPU time of the node and its database,
- until all members are known: the same, and the node's resident memory at its highest,

(with --whole they come with the answer at once, as from servers that cannot leave them out)

and the longest that the event loop of either node was held up meanwhile (other work on the machine shows in
it). The exit status is 1 where a bound is missed: 3 s of work for the answer, complete within 60 s, 500 MiB.
Memory and CPU time are read from /proc.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import aiohttp
import uvloop
from msgspec.structs import replace

from federation.room_versions import ROOM_VERSIONS
from homeserver.app import Node
from homeserver.config.load import load_config
from homeserver.config.secrets import load_signing_key
from homeserver.logging import configure_logging
from homeserver.rooms.draft import Draft
from homeserver.storage.database import open_database
from scripts.companies.authority import Authority
from scripts.companies.company import Company
from scripts.companies.people import Person, Refused, log_in
from scripts.companies.run import until_answering

VERSION = "12"
PORTS = (8191, 8192), (8193, 8194)  # of clients and of other servers
BATCH = 500
ROOM_CACHE_BYTES = 512 * 1024 * 1024
TIMEOUT_S = 300.0
STOP_TIMEOUT_S = 60.0
SETTLE_S = 3.0
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
ANSWER_CPU_S, COMPLETE_S, MEMORY_MIB = 3.0, 60.0, 500.0


# -- the room --


def first_events(creator: str) -> list[Draft]:
    """The state of a public room with its creator in it."""

    def state(kind: str, content: dict[str, object], key: str = "") -> Draft:
        return Draft(sender=creator, type=kind, state_key=key, content=content)

    return [
        state("m.room.create", {"room_version": VERSION}),
        state("m.room.member", {"membership": "join", "displayname": "Creator"}, creator),
        state("m.room.power_levels", {"users": {}, "events": {"m.room.tombstone": 150}}),
        state("m.room.join_rules", {"join_rule": "public"}),
        state("m.room.history_visibility", {"history_visibility": "shared"}),
        state("m.room.name", {"name": "The whole company"}),
    ]


async def fill(company: Company, members: int, count: int) -> list[str]:
    """Make so many rooms with so many members on a node that does not run; their ids."""
    config = load_config(company.folder / "veche.toml")
    config = replace(config, limits=replace(config.limits, room_cache_bytes=ROOM_CACHE_BYTES))
    configure_logging(config.logging)
    database = await open_database(config.database, Path(config.server.data_dir))
    try:
        node = await Node.build(config, load_signing_key(Path(config.server.signing_key_file)), database)
        node.engine.supervisor.start("committer", node.engine.committer.run)
        rooms, creator = node.services.rooms, company.user_id("creator")
        joins = [join(company.user_id(f"member-{number}")) for number in range(1, members)]
        try:
            made: list[str] = []
            for _ in range(count):
                room = await rooms.create(ROOM_VERSIONS[VERSION], "", first_events(creator))
                for start in range(0, len(joins), BATCH):
                    await rooms.send_all(room.room_id, joins[start : start + BATCH])
                made.append(room.room_id)
            return made
        finally:
            await node.engine.committer.drain()
            await node.engine.supervisor.stop()
            await node.engine.client.close()
            await database.pool.execute("VACUUM (ANALYZE)", timeout=TIMEOUT_S)
    finally:
        await database.close()


def join(user_id: str) -> Draft:
    """A member's event, as long as they usually are."""
    content = {
        "membership": "join",
        "displayname": user_id[1:].partition(":")[0].title(),
        "avatar_url": f"mxc://example.org/{abs(hash(user_id)):024d}",
    }
    return Draft(sender=user_id, type="m.room.member", state_key=user_id, content=content)


# -- what a process has used --


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def tree(root: int) -> list[int]:
    """A process and all that come from it: the node and its database."""
    parents = {
        int(name): int(stat[1])
        for name in os.listdir("/proc")
        if name.isdigit() and (stat := _stat(int(name)))
    }
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def cpu_s(pids: list[int]) -> float:
    """What processes, and those of their children that have ended, have worked."""
    return sum(int(ticks) for pid in pids for ticks in _stat(pid)[11:15]) * TICK_S


def peak_mib(pid: int) -> float:
    """The most memory that a process ever held."""
    [line] = [
        each for each in Path(f"/proc/{pid}/status").read_text().splitlines() if each.startswith("VmHWM")
    ]
    return int(line.split()[1]) / 1024


# -- the join --


@contextmanager
def running(company: Company) -> Iterator[subprocess.Popen[bytes]]:
    """A node of its own process."""
    node = company.serve()
    try:
        yield node
    finally:
        node.send_signal(signal.SIGTERM)
        node.wait(STOP_TIMEOUT_S)


async def longest_stall_ms(http: aiohttp.ClientSession, company: Company) -> float:
    """Since the node's start."""
    async with http.get(f"{company.url}/metrics") as response:
        lines = (await response.text()).splitlines()
    [value] = [line.split()[1] for line in lines if line.startswith("event_loop_stall_max_seconds ")]
    return float(value) * 1000


async def all_members(person: Person, room_id: str) -> int:
    """How many members the room has; asked until the node knows."""
    while True:
        try:
            return len((await person.call("GET", f"/rooms/{quote(room_id)}/joined_members"))["joined"])
        except Refused as refusal:
            if refusal.status != 503:
                raise


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one join: seconds since it began, CPU seconds, MiB, milliseconds."""

    answered_s: float
    answered_cpu_s: float
    complete_s: float
    complete_cpu_s: float
    node_cpu_s: float
    peak_mib: float
    stall_before_ms: float
    stall_ms: float
    resident_stall_ms: float

    def is_good(self) -> bool:
        """Whether the bounds are kept."""
        return (
            self.answered_cpu_s <= ANSWER_CPU_S
            and self.complete_s <= COMPLETE_S
            and self.peak_mib <= MEMORY_MIB
        )

    def __str__(self) -> str:
        return (
            f"answered after {self.answered_s:.2f} s ({self.answered_cpu_s:.2f} s of work), "
            f"complete after {self.complete_s:.2f} s ({self.complete_cpu_s:.2f} s, of which the node "
            f"{self.node_cpu_s:.2f}), {self.peak_mib:.0f} MiB at most; longest stall {self.stall_ms:.0f} ms "
            f"({self.stall_before_ms:.0f} before), of the other node {self.resident_stall_ms:.0f} ms"
        )


async def measure(resident: Company, joiner: Company, room_id: str, members: int) -> Figures:
    """One join, by a node that has just started."""
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    with running(joiner) as node:
        async with aiohttp.ClientSession(timeout=timeout) as http:
            await until_answering(http, joiner, node)
            person = await log_in(http, joiner, "alice")
            await asyncio.sleep(SETTLE_S)
            stall_before_ms = await longest_stall_ms(http, joiner)
            pids = tree(node.pid)
            used, used_by_node, begin = cpu_s(pids), cpu_s([node.pid]), time.perf_counter()
            await person.call("POST", f"/join/{quote(room_id)}?via={resident.server_name}", {})
            answered_s = time.perf_counter() - begin
            answered_cpu_s = cpu_s(tree(node.pid)) - used
            found = await all_members(person, room_id)
            complete_s = time.perf_counter() - begin
            if found != members:
                raise SystemExit(f"{found} members are known, not {members}")
            return Figures(
                answered_s,
                answered_cpu_s,
                complete_s,
                cpu_s(tree(node.pid)) - used,
                cpu_s([node.pid]) - used_by_node,
                peak_mib(node.pid),
                stall_before_ms,
                await longest_stall_ms(http, joiner),
                await longest_stall_ms(http, resident),
            )


def keep_members(company: Company) -> None:
    """Have a node give all members of any room in its answer to a join."""
    file = company.folder / "veche.toml"
    setting = f"[federation]\nomit_members_from = {sys.maxsize}"
    file.write_text(file.read_text().replace("[federation]", setting))


async def run(folder: Path, members: int, passes: int, *, whole: bool) -> bool:
    """All passes; whether each kept the bounds."""
    authority = Authority(folder)
    resident = Company("resident", folder / "resident", *PORTS[0])
    joiners = [Company(f"joining-{n}", folder / f"joining-{n}", *PORTS[1]) for n in range(1, passes + 1)]
    for company in (resident, *joiners):
        company.set_up(authority, (resident, *joiners))
    if whole:
        keep_members(resident)
    room_ids = await fill(resident, members, passes)
    good = True
    with running(resident) as node:
        async with aiohttp.ClientSession() as http:
            await until_answering(http, resident, node)
            await asyncio.sleep(SETTLE_S)
            stall_ms = await longest_stall_ms(http, resident)
        print(f"{passes} rooms of {members} members; longest stall {stall_ms:.0f} ms", flush=True)
        for joiner, room_id in zip(joiners, room_ids, strict=True):
            figures = await measure(resident, joiner, room_id, members + 1)
            print(figures, flush=True)
            good &= figures.is_good()
        worked_s = cpu_s(tree(node.pid))
        print(f"the other node: {peak_mib(node.pid):.0f} MiB at most, {worked_s:.2f} s of work in all")
    return good


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--members", type=int, default=10_000)
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--whole", action="store_true", help="members are not left out of the answer")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="join-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)  # the databases may run as another user
        return 0 if uvloop.run(run(folder, options.members, options.passes, whole=options.whole)) else 1


if __name__ == "__main__":
    sys.exit(main())
