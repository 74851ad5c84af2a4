"""``veche user``: accounts, straight in the database, whether the node runs or not."""

from __future__ import annotations

import asyncio
import getpass
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from msgspec.structs import replace

from homeserver.accounts.administration import Administration
from homeserver.accounts.passwords import Passwords
from homeserver.cli.errors import CommandError
from homeserver.config.load import load_config
from homeserver.config.sections import Config
from homeserver.storage.accounts import AccountRow
from homeserver.storage.database import open_database


def add_user(config_path: Path, name: str, *, admin: bool, password_stdin: bool) -> None:
    """Make an account and print its user ID. Raises CommandError, and MatrixError for names or passwords."""
    config = load_config(config_path)
    if name.lower() == config.server_notices.localpart:
        raise CommandError(f"{name} is the user that speaks for the server: choose another name")
    password = read_password(stdin=password_stdin)

    async def add() -> str:
        async with administration(config) as accounts:
            return await accounts.create_user(name, password, is_admin=admin)

    user_id = asyncio.run(add())
    print(f"{user_id} can log in now{', and is an administrator' if admin else ''}")


def reset_password(config_path: Path, name: str, *, password_stdin: bool) -> None:
    """Set a user's password and end all their sessions. Raises like `add_user`."""
    config = load_config(config_path)
    password = read_password(stdin=password_stdin)

    async def reset() -> str:
        async with administration(config) as accounts:
            return await accounts.reset_password(name, password)

    print(f"{asyncio.run(reset())} has a new password, and is logged out everywhere")


def list_users(config_path: Path) -> None:
    """Print a line for each account: user ID, day of its making, and what is special about it."""
    config = load_config(config_path)

    async def show() -> None:
        async with administration(config) as accounts:
            async for account in accounts.list_users():
                print(describe(account))

    asyncio.run(show())


@asynccontextmanager
async def administration(config: Config) -> AsyncIterator[Administration]:
    """The accounts, on a database that is opened for it; an embedded one is started unless the node runs."""
    passwords = Passwords(config.auth)
    settings = replace(config.database, connections_min=1, connections_max=1)
    database = await open_database(settings, Path(config.server.data_dir))
    try:
        yield Administration(
            database.pool,
            config.server.server_name,
            passwords,
            display_names=config.registration.display_names,
        )
    finally:
        passwords.close()
        await database.close()


def read_password(*, stdin: bool) -> str:
    """A password, asked for twice, or the first line of standard input. Raises CommandError."""
    if stdin:
        password = sys.stdin.readline().rstrip("\r\n")
        if not password:
            raise CommandError("there is no password on standard input")
        return password
    if not sys.stdin.isatty():
        raise CommandError("there is no terminal to ask for a password: use --password-stdin")
    password = getpass.getpass("Password: ")
    if password != getpass.getpass("Again: "):
        raise CommandError("the passwords differ: nothing was changed")
    return password


def describe(account: AccountRow) -> str:
    """An account as one line for people and for grep."""
    made = datetime.fromtimestamp(account.created_ms / 1000, UTC).date().isoformat()
    marks = {
        "administrator": account.is_admin,
        "guest": account.is_guest,
        "deactivated": account.is_deactivated,
        "locked": account.is_locked,
        "suspended": account.is_suspended,
    }
    return "  ".join([account.user_id, made, *(mark for mark, given in marks.items() if given)])
