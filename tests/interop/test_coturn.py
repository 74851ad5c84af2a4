"""coturn, from Debian, believes the credentials that the node gives, and no others."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from homeserver.accounts.turn_servers import TurnServers
from homeserver.clock import now_ms
from homeserver.config.rooms import VoipConfig
from homeserver.requester import Requester
from tests.api.client import Api, http_session
from tests.conformance import Exchanges
from tests.node import Node, free_port
from tests.postgres import make_data_dir

PORT = free_port()
SECRET = "shared by the node and coturn"
URI = f"turn:127.0.0.1:{PORT}?transport=udp"
SETTINGS = {"voip": {"turn_uris": [URI], "turn_shared_secret": SECRET, "turn_lifetime_ms": 600_000}}
TIMEOUT_S = 30.0
ALICE = Requester(user_id="@alice:veche.test", user_nid=1, device_id="PHONE", device_nid=1, token_nid=1)

pytestmark = pytest.mark.debian


@pytest_asyncio.fixture(scope="module")
async def coturn() -> AsyncIterator[int]:
    """The port of a running TURN server."""
    if shutil.which("turnserver") is None or shutil.which("turnutils_uclient") is None:
        pytest.skip("coturn is not installed: apt-get install coturn")
    folder = make_data_dir()
    process = await asyncio.create_subprocess_exec(
        *("turnserver", "-n", "--no-tls", "--no-dtls", "--no-cli", "--log-file=stdout"),
        *("--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1", f"--listening-port={PORT}"),
        *("--allow-loopback-peers", "--realm=veche.test", "--use-auth-secret"),
        f"--static-auth-secret={SECRET}",
        f"--db={folder / 'turndb'}",
        f"--pidfile={folder / 'pid'}",
        stdout=(folder / "log").open("wb"),
        stderr=asyncio.subprocess.STDOUT,
        stdin=asyncio.subprocess.DEVNULL,
    )
    try:
        await asyncio.wait_for(_answering(process), TIMEOUT_S)
        yield PORT
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        shutil.rmtree(folder)


async def _answering(process: asyncio.subprocess.Process) -> None:
    while True:
        assert process.returncode is None, "coturn does not run"
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", PORT)  # it listens on TCP as well
        except OSError:
            await asyncio.sleep(0.02)
            continue
        writer.close()
        return


async def relays(username: str, password: str) -> tuple[bool, str]:
    """Whether a client of coturn's own sends messages through the relay, and what it said."""
    process = await asyncio.create_subprocess_exec(
        *("turnutils_uclient", "-y", "-c", "-n", "1", "-m", "1"),
        *("-u", username, "-w", password, "-p", str(PORT), "127.0.0.1"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
    finally:
        if process.returncode is None:
            process.kill()
    said = output.decode(errors="replace")
    return process.returncode == 0 and "Total lost packets 0 " in said, said


async def test_the_nodes_credentials_open_a_relay(node: Node, exchanges: Exchanges, coturn: int) -> None:
    async with http_session() as http:
        alice = await Api(http, node.url, node.server_name, exchanges).register("alice")
        given = await alice.get("/v3/voip/turnServer")
    assert given["uris"] == [URI]
    works, said = await relays(given["username"], given["password"])
    assert works, said


async def test_other_credentials_do_not(coturn: int) -> None:
    config = VoipConfig(turn_uris=(URI,), turn_shared_secret=SECRET, turn_lifetime_ms=600_000)
    good = TurnServers(config).credentials(ALICE)
    expired = TurnServers(config, clock=lambda: now_ms() - 700_000).credentials(ALICE)
    for username, password in (
        (good["username"], "guessed"),
        (good["username"].replace("alice", "bob"), good["password"]),
        (expired["username"], expired["password"]),
    ):
        works, said = await relays(username, password)
        assert not works
        assert "Cannot complete Allocation" in said
