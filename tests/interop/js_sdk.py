"""Running a program that is built on matrix-js-sdk in Node.js."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

JS = Path(__file__).parent / "js"


def what_is_missing() -> str | None:
    """Why no such program can run on this machine, or None."""
    if shutil.which("node") is None:
        return "Node.js is not installed"
    if not (JS / "node_modules" / "matrix-js-sdk").exists():
        return "matrix-js-sdk is not installed: npm install --no-package-lock --prefix tests/interop/js"
    return None


async def run_program(name: str, *arguments: str, timeout_s: float) -> list[str]:
    """The steps that a program says to have taken, once it has ended well."""
    if (missing := what_is_missing()) is not None:
        pytest.skip(missing)
    process = await asyncio.create_subprocess_exec(
        "node",
        str(JS / name),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    said = ""
    try:
        async with asyncio.timeout(timeout_s):
            while chunk := await process.stdout.read(65536):
                said += chunk.decode(errors="replace")
            await process.wait()
    except TimeoutError:
        pytest.fail(f"{name} has not ended within {timeout_s:g} s; it said:\n{said}")
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, said
    return [line.removeprefix("ok ") for line in said.splitlines() if line.startswith("ok ")]
