"""``veche serve``: starting, being told to stop, and what is said when it cannot start."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from pathlib import Path

import aiohttp
import pytest

from homeserver.cli.main import main
from tests.node import free_port


def set_up(data_dir: Path, port: int) -> Path:
    """A new server with an embedded database and one listener, on ``port``."""
    path = data_dir / "veche.toml"
    listen = ("--listen", f"127.0.0.1:{port}")
    assert main(["init", "--server-name", "company.test", "--config", str(path), *listen]) == 0
    client_only, _, rest = path.read_text().partition("[[listeners]]\nport = 9008\n")
    path.write_text(client_only + rest.replace('purposes = ["metrics"]\n', "", 1))
    return path


async def serve(path: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "homeserver", "serve", "--config", str(path)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def answers(port: int) -> None:
    """Return when the node answers; fails after 30 s."""
    async with aiohttp.ClientSession() as session, asyncio.timeout(30):
        while True:
            try:
                async with session.get(f"http://127.0.0.1:{port}/_matrix/client/versions") as response:
                    assert response.status == 200
                    return
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_new_node_serves_and_stops_cleanly(data_dir: Path, number: signal.Signals) -> None:
    port = free_port()
    node = await serve(set_up(data_dir, port))
    await answers(port)
    assert (data_dir / "data" / "postgres" / "postmaster.pid").exists()

    node.send_signal(number)
    _, errors = await asyncio.wait_for(node.communicate(), 30)
    assert node.returncode == 0, errors.decode()
    assert b"Traceback" not in errors
    assert not (data_dir / "data" / "postgres" / "postmaster.pid").exists()


async def test_an_address_in_use_is_an_error_to_read_and_leaves_no_database_behind(data_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        node = await serve(set_up(data_dir, taken.getsockname()[1]))
        _, errors = await asyncio.wait_for(node.communicate(), 30)
    assert node.returncode == 1
    assert "another node may be running" in errors.decode()
    assert b"Traceback" not in errors
    assert not (data_dir / "data" / "postgres" / "postmaster.pid").exists()


async def test_without_its_signing_key_it_does_not_start(data_dir: Path) -> None:
    path = set_up(data_dir, free_port())
    (data_dir / "signing.key").unlink()
    node = await serve(path)
    _, errors = await asyncio.wait_for(node.communicate(), 30)
    assert node.returncode == 1
    assert "Restore it from your copy" in errors.decode()
