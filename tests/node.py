"""Starting a real node as a process of its own, as an administrator does: a TOML file and `veche serve`."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.conformance import CHECKOUT

SERVER_NAME = "veche.test"
SHARED_SECRET = "a secret of the tests"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
POLL_S = 0.01
PORTS = range(10_000, 32_000)  # below those of outgoing connections
COMMAND = (sys.executable, "-m", "homeserver")

_RANDOM = random.SystemRandom()  # the other one is seeded by Hypothesis, alike in all processes

Sections = Mapping[str, Mapping[str, Any]]
"""Settings by section, as in the TOML file."""

TEST_SETTINGS: Sections = {
    "registration": {"mode": "open", "guests": True, "shared_secret": SHARED_SECRET},
    "auth": {"argon2_time_cost": 1, "argon2_memory_kib": 8, "argon2_parallelism": 1},
    "rate_limits": {"enabled": False},
    "logging": {"level": "info", "format": "json"},
}
"""What tests need: anyone may register, no rate limits, passwords hashed at the least cost."""

# Something that a node logs only if it has a fault. A refusal or a client that went away leaves neither.
_FAULT = re.compile(r"Traceback \(most recent call last\)|request failed")


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now.

    The system would give one of those that it also gives to outgoing connections, so that it may be
    taken when the server for it starts; and tests that run side by side choose at random.
    """
    while True:
        port = _RANDOM.choice(PORTS)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def toml(sections: Sections) -> str:
    """Settings as TOML. A JSON string, number, boolean or list of strings is a TOML one."""
    lines: list[str] = []
    for name, settings in sections.items():
        lines.append(f"[[{name}]]" if name == "listeners" else f"[{name}]")
        lines += [f"{key} = {_value(value)}" for key, value in settings.items()]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_value(each)}" for key, each in value.items()) + " }"
    return json.dumps(value)


@dataclass(slots=True)
class Node:
    """A node whose configuration, key, log and data are in ``folder``; it can be killed and started again.

    Without a ``database_url`` it runs its own PostgreSQL in the folder.
    """

    folder: Path
    database_url: str | None = None
    settings: Sections = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    server_name: str = SERVER_NAME
    more_listeners: Sequence[Mapping[str, Any]] = ()
    process: subprocess.Popen[bytes] | None = None
    start_seconds: list[float] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log_file(self) -> Path:
        return self.folder / "node.log"

    @property
    def pid(self) -> int:
        assert self.process is not None, "the node does not run"
        return self.process.pid

    async def start(self) -> None:
        """Start the node and return when it answers; the time it took is added to ``start_seconds``."""
        config = self._write_config()
        started = time.monotonic()
        self.process = self._spawn(config)
        async with aiohttp.ClientSession() as http:
            while not await self._answers(http):
                status = self.process.poll()
                if status is not None or time.monotonic() > started + START_TIMEOUT_S:
                    await self.kill()
                    raise RuntimeError(
                        f"the node did not start (exit status {status}):\n{self.log()[-4000:]}"
                    )
                await asyncio.sleep(POLL_S)
        self.start_seconds.append(time.monotonic() - started)

    def _spawn(self, config: Path) -> subprocess.Popen[bytes]:
        with self.log_file.open("ab") as log:
            return subprocess.Popen(
                [*COMMAND, "serve", "--config", str(config)],
                cwd=CHECKOUT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def _answers(self, http: aiohttp.ClientSession) -> bool:
        try:
            for listener in self.more_listeners:
                _, writer = await asyncio.open_connection(listener["address"], listener["port"])
                writer.close()
            async with http.get(f"{self.url}/_matrix/client/versions") as response:
                return response.status == 200
        except (aiohttp.ClientError, OSError):
            return False

    async def kill(self) -> None:
        """SIGKILL: the node has no chance to tidy up."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """SIGTERM: the node stops gracefully; returns its exit status."""
        return await self._end(signal.SIGTERM)

    async def _end(self, sent: signal.Signals) -> int:
        if self.process is None:
            return 0
        process, self.process = self.process, None
        if process.poll() is None:
            os.kill(process.pid, sent)
        try:
            return await asyncio.to_thread(process.wait, STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            raise

    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def faults(self) -> list[str]:
        """Lines of the log that only a fault of the node can have caused, with what follows them."""
        lines = self.log().splitlines()
        return [
            "\n".join(lines[number : number + 30]) for number, line in enumerate(lines) if _FAULT.search(line)
        ][:5]

    def rss_bytes(self) -> int:
        """Resident memory of the node's process, without its database."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
        assert found is not None
        return int(found[1]) * 1024

    def _write_config(self) -> Path:
        key = self.folder / "signing.key"
        if not key.exists():
            seed = base64.b64encode(os.urandom(32)).decode().rstrip("=")
            key.write_text(f"ed25519 test {seed}\n")
            key.chmod(0o600)
        sections: dict[str, Mapping[str, Any]] = {
            "server": {
                "server_name": self.server_name,
                "data_dir": str(self.folder / "data"),
                "signing_key_file": str(key),
                "public_baseurl": self.url,
            },
            "listeners": {"address": "127.0.0.1", "port": self.port, "purposes": ["client"]},
        }
        if self.database_url is not None:
            sections["database"] = {"url": self.database_url}
        for name, section in (*TEST_SETTINGS.items(), *self.settings.items()):
            sections[name] = {**sections.get(name, {}), **section}
        config = self.folder / "veche.toml"
        more = (toml({"listeners": listener}) for listener in self.more_listeners)
        config.write_text(toml(sections) + "".join(more))
        config.chmod(0o600)
        return config
