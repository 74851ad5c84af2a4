"""A chat of two clients built on matrix-js-sdk, in Node.js: see js/chat.mjs."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

JS = Path(__file__).parent / "js"
TIMEOUT_S = 120.0
STEPS = (
    "register and login",
    "invite",
    "join",
    "send",
    "edit",
    "react",
    "thread",
    "redact",
    "typing",
    "receipt",
    "page back",
    "all",
)


def what_is_missing() -> str | None:
    """Why the test cannot run on this machine, or None."""
    if shutil.which("node") is None:
        return "Node.js is not installed"
    if not (JS / "node_modules" / "matrix-js-sdk").exists():
        return "matrix-js-sdk is not installed: npm install --no-package-lock --prefix tests/interop/js"
    return None


@pytest.mark.node_js
async def test_two_clients_chat_and_see_everything_by_sync(proxy_url: str) -> None:
    if (missing := what_is_missing()) is not None:
        pytest.skip(missing)
    process = await asyncio.create_subprocess_exec(
        "node",
        str(JS / "chat.mjs"),
        proxy_url,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
    finally:
        if process.returncode is None:
            process.kill()
    said = output.decode(errors="replace")
    assert process.returncode == 0, said
    assert [line for line in said.splitlines() if line.startswith("ok ")] == [f"ok {step}" for step in STEPS]
