"""``scripts/network``: companies side by side, which share a room, stop together, and go on the next time."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.api.client import Api, User, http_session, timeline_of
from tests.conformance import CHECKOUT, Exchanges

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 60.0


def two_ports_in_a_row() -> int:
    """The first of two TCP ports of 127.0.0.1 next to each other that nobody listens on now."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as first:
            port: int = first.getsockname()[1]
            try:
                socket.create_server(("127.0.0.1", port + 1)).close()
            except OSError:
                continue
            return port


class Running:
    """``scripts/network 2``, as it is run by hand, with its data in ``home``."""

    def __init__(self, home: Path, client_port: int, federation_port: int) -> None:
        self._arguments = (
            *(sys.executable, "-m", "scripts.companies.run", "--home", str(home), "2"),
            *("--client-port", str(client_port), "--federation-port", str(federation_port)),
        )
        self.printed = ""
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Return when everybody is in the room."""
        self.process = await asyncio.create_subprocess_exec(
            *self._arguments,
            cwd=CHECKOUT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        assert self.process.stdout is not None
        async with asyncio.timeout(START_TIMEOUT_S):
            while "Ctrl-C" not in self.printed:
                line = await self.process.stdout.readline()
                assert line, f"it has ended:\n{self.printed}"
                self.printed += line.decode()

    async def stop(self) -> int:
        """Ctrl-C; its exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        output, _ = await asyncio.wait_for(self.process.communicate(), STOP_TIMEOUT_S)
        self.printed += output.decode()
        assert self.process.returncode is not None
        return self.process.returncode


def running_databases(home: Path) -> list[Path]:
    return list(home.glob("*/data/postgres/postmaster.pid"))


async def room_of(user: User) -> str:
    [room_id] = (await user.get("/v3/joined_rooms"))["joined_rooms"]
    return str(room_id)


@pytest.mark.slow
async def test_two_companies_share_a_room_and_go_on_with_it(data_dir: Path, exchanges: Exchanges) -> None:
    ports = two_ports_in_a_row(), two_ports_in_a_row()
    names = ("acme", "globex")
    async with http_session() as http:
        apis = {
            name: Api(http, f"http://127.0.0.1:{ports[0] + number}", f"{name}.localhost", exchanges)
            for number, name in enumerate(names)
        }

        async def log_in(person: str, company: str) -> User:
            return await apis[company].login(person, f"{person}-of-{company}")

        room_id, sent = "", ""
        for run in range(2):
            running = Running(data_dir, *ports)
            await running.start()
            for company in names:
                assert apis[company].url in running.printed
                assert f"alice-of-{company}" in running.printed
            alice, bob = await log_in("alice", "acme"), await log_in("bob", "globex")
            for user in (alice, bob, await log_in("bob", "acme"), await log_in("alice", "globex")):
                assert await room_of(user) == (room_id or await room_of(alice))
            if run == 0:
                room_id = await room_of(alice)
                since: Any = (await bob.sync())["next_batch"]
                sent = await alice.send(room_id, "hello, Globex")
                found: list[str] = []
                while sent not in found:
                    sync = await bob.sync(since, timeout_ms=10_000)
                    found += [event["event_id"] for event in timeline_of(sync, room_id)]
                    since = sync["next_batch"]
            else:
                assert (await bob.event(room_id, sent))["content"]["body"] == "hello, Globex"
            assert await running.stop() == 0
            assert running_databases(data_dir) == []
