"""``veche user``: accounts made, changed and listed from the command line."""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from homeserver.accounts.passwords import Passwords
from homeserver.cli.main import main
from homeserver.config.load import load_config
from homeserver.storage.accounts import fetch_account
from homeserver.storage.database import open_database
from tests.postgres import TestCluster

PASSWORD = "correct horse battery"


@pytest.fixture
async def config_path(data_dir: Path, postgres: TestCluster) -> AsyncIterator[Path]:
    """The configuration of a node without accounts."""
    path = data_dir / "veche.toml"
    assert main(["init", "--server-name", "company.test", "--config", str(path)]) == 0
    url = await postgres.create_database()
    text = path.read_text().replace("#url = ", f'url = "{url}" # ', 1)
    path.write_text(text.replace("#argon2_memory_kib = 19_456", "argon2_memory_kib = 8"))
    yield path
    await postgres.drop_database(url)


async def veche(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
    """Run the command in a process of its own; return its status, output and errors."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "homeserver", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate(stdin.encode())
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


async def test_accounts_are_made_and_listed(config_path: Path) -> None:
    config = ("--config", str(config_path))
    status, output, _ = await veche(
        "user", "add", "Alice", "--admin", "--password-stdin", *config, stdin=f"{PASSWORD}\n"
    )
    assert (status, output) == (0, "@alice:company.test can log in now, and is an administrator\n")
    status, output, _ = await veche("user", "add", "bob", "--password-stdin", *config, stdin=PASSWORD)
    assert (status, output) == (0, "@bob:company.test can log in now\n")

    status, output, _ = await veche("user", "list", *config)
    alice, bob = output.splitlines()
    assert alice.startswith("@alice:company.test  ") and alice.endswith("  administrator")
    assert bob.startswith("@bob:company.test  ") and "administrator" not in bob


@pytest.mark.parametrize(
    ("name", "password", "said"),
    [
        ("alice smith", PASSWORD, "User names may only contain"),
        ("alice", "short", "at least 8 characters"),
        ("alice", "", "no password on standard input"),
        ("notices", PASSWORD, "speaks for the server"),
    ],
)
async def test_what_cannot_be_is_refused_in_plain_words(
    config_path: Path, name: str, password: str, said: str
) -> None:
    arguments = ("user", "add", name, "--password-stdin", "--config", str(config_path))
    status, output, errors = await veche(*arguments, stdin=password)
    assert (status, output) == (1, "")
    assert said in errors
    assert "Traceback" not in errors


async def test_a_name_that_is_taken_is_refused(config_path: Path) -> None:
    arguments = ("user", "add", "alice", "--password-stdin", "--config", str(config_path))
    assert (await veche(*arguments, stdin=PASSWORD))[0] == 0
    status, _, errors = await veche(*arguments, stdin="another one entirely")
    assert status == 1
    assert "@alice:company.test exists already" in errors


async def test_a_reset_password_replaces_the_old_one(config_path: Path) -> None:
    config = load_config(config_path)
    arguments = ("alice", "--password-stdin", "--config", str(config_path))
    await veche("user", "add", *arguments, stdin=PASSWORD)
    status, output, _ = await veche("user", "reset-password", *arguments, stdin="another one entirely")
    assert (status, output) == (0, "@alice:company.test has a new password, and is logged out everywhere\n")

    connection = await asyncpg.connect(config.database.url)
    account = await fetch_account(connection, "@alice:company.test")
    await connection.close()
    assert account is not None
    passwords = Passwords(config.auth)
    assert await passwords.verify(account.password_hash, "another one entirely")
    assert not await passwords.verify(account.password_hash, PASSWORD)
    passwords.close()

    unknown = ("user", "reset-password", "nobody", "--password-stdin", "--config", str(config_path))
    status, _, errors = await veche(*unknown, stdin=PASSWORD)
    assert status == 1
    assert "no user 'nobody'" in errors


async def test_the_embedded_database_is_shared_with_a_running_node(data_dir: Path) -> None:
    path = data_dir / "veche.toml"
    assert main(["init", "--server-name", "company.test", "--config", str(path)]) == 0
    config = load_config(path)
    arguments = ("user", "add", "alice", "--password-stdin", "--config", str(path))

    database = await open_database(config.database, Path(config.server.data_dir))  # as the node does
    assert (await veche(*arguments, stdin=PASSWORD))[0] == 0
    assert await database.pool.fetchval("SELECT count(*) FROM accounts") == 1  # it still runs
    await database.close()

    assert "@alice:company.test" in (await veche("user", "list", "--config", str(path)))[1]  # started for it
    assert not (data_dir / "data" / "postgres" / "postmaster.pid").exists()


def test_a_password_is_asked_for_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    from homeserver.cli import users
    from homeserver.cli.errors import CommandError

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    for typed, same in ((["one", "one"], True), (["one", "two"], False)):
        answers = iter(typed)
        monkeypatch.setattr("getpass.getpass", lambda prompt, answers=answers: next(answers))
        if same:
            assert users.read_password(stdin=False) == "one"
        else:
            with pytest.raises(CommandError, match="differ"):
                users.read_password(stdin=False)

    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(CommandError, match="--password-stdin"):
        users.read_password(stdin=False)
