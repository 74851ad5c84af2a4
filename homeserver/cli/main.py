"""Arguments, and errors that say what to do next."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

CONFIG_VARIABLE = "VECHE_CONFIG"
DEFAULT_CONFIG = "veche.toml"


Command = Callable[[argparse.Namespace], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status: 0, 1 for errors, 2 for wrong arguments, 130 for Ctrl-C."""
    options = _parser().parse_args(arguments)
    command: Command = options.command
    try:
        command(options)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if not _is_for_people(error):
            raise
        print(f"veche: {_message(error)}", file=sys.stderr)
        return 1
    return 0


def _is_for_people(error: Exception) -> bool:
    """Whether the error's message tells an administrator all; others show their traceback."""
    from homeserver.cli.errors import CommandError
    from homeserver.config.load import ConfigError
    from homeserver.config.server_name import DoubtfulServerName
    from homeserver.errors import MatrixError
    from homeserver.storage.database import DatabaseError
    from homeserver.storage.migrations import MigrationError
    from homeserver.storage.postgres_binaries import EmbeddedPostgresError

    storage = (DatabaseError, MigrationError, EmbeddedPostgresError)
    ours = (CommandError, ConfigError, DoubtfulServerName, MatrixError, *storage)
    if isinstance(error, OSError):  # names a file, or an address: those of sockets in use have no file name
        return error.filename is not None or error.errno in (
            errno.EADDRINUSE,
            errno.EADDRNOTAVAIL,
            errno.EACCES,
        )
    return isinstance(error, ours)


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return (
            f"{error.strerror or error}; another node may be running: see [[listeners]] in the configuration"
        )
    return str(error)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="veche", description="A Matrix homeserver for networks of companies."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    init = commands.add_parser("init", help="make a configuration and keys for a new server")
    init.add_argument(
        "--server-name", required=True, metavar="NAME", help="your domain; it can never be changed"
    )
    init.add_argument("--data", type=Path, metavar="DIR", help="the folder for the server's data")
    init.add_argument("--force", action="store_true", help="take a doubtful name, such as an IP address")
    init.add_argument("--listen", metavar="ADDRESS:PORT", help="where clients connect (127.0.0.1:8008)")
    _add_config(init)
    init.set_defaults(command=_init)

    serve = commands.add_parser("serve", help="run the server")
    _add_config(serve)
    serve.set_defaults(command=_serve)

    user = commands.add_parser("user", help="make and manage accounts").add_subparsers(
        required=True, metavar="COMMAND"
    )
    add = user.add_parser("add", help="make an account")
    add.add_argument("name", help="the user's name, such as alice")
    add.add_argument("--admin", action="store_true", help="make the user an administrator of the server")
    _add_password(add)
    _add_config(add)
    add.set_defaults(command=_user_add)
    reset = user.add_parser("reset-password", help="set a new password and log the user out everywhere")
    reset.add_argument("name", help="the user's name")
    _add_password(reset)
    _add_config(reset)
    reset.set_defaults(command=_user_reset_password)
    listing = user.add_parser("list", help="show all accounts")
    _add_config(listing)
    listing.set_defaults(command=_user_list)

    keys = commands.add_parser("keys", help="the server's signing key").add_subparsers(
        required=True, metavar="COMMAND"
    )
    rotate = keys.add_parser("rotate", help="make a new signing key; the old one stays known to others")
    rotate.add_argument(
        "--stolen", action="store_true", help="the old key may be in other hands: it ends at once"
    )
    _add_config(rotate)
    rotate.set_defaults(command=_keys_rotate)

    federation = commands.add_parser("federation", help="the servers that this one sends to").add_subparsers(
        required=True, metavar="COMMAND"
    )
    servers = federation.add_parser("list", help="show whether they answer, and what waits for them")
    _add_config(servers)
    servers.set_defaults(command=_federation_list)
    retry = federation.add_parser("retry", help="try a server that did not answer again at once")
    retry.add_argument("server_name", help="the server's name, such as partner.example")
    _add_config(retry)
    retry.set_defaults(command=_federation_retry)

    config = commands.add_parser("config", help="look at the configuration").add_subparsers(
        required=True, metavar="COMMAND"
    )
    check = config.add_parser("check", help="tell what is wrong with the configuration")
    _add_config(check)
    check.set_defaults(command=_config_check)
    sample = config.add_parser("sample", help="print a commented configuration")
    sample.set_defaults(command=_config_sample)

    version = commands.add_parser("version", help="print the versions of Veche and what it runs on")
    version.set_defaults(command=_version)
    return parser


def _add_config(parser: argparse.ArgumentParser) -> None:
    default = Path(os.environ.get(CONFIG_VARIABLE, DEFAULT_CONFIG))
    parser.add_argument(
        "--config",
        "-c",
        type=Path,
        default=default,
        metavar="FILE",
        help=f"the configuration file (${CONFIG_VARIABLE}, else {DEFAULT_CONFIG})",
    )


def _add_password(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--password-stdin",
        action="store_true",
        help="read the password from standard input instead of asking",
    )


# The server starts in less than a second: a command imports what it needs, not what others do.


def _init(options: argparse.Namespace) -> None:
    from homeserver.cli.init import init

    init(options.server_name, options.config, options.data, force=options.force, listen=options.listen)


def _serve(options: argparse.Namespace) -> None:
    from homeserver.cli.serve import serve

    serve(options.config)


def _user_add(options: argparse.Namespace) -> None:
    from homeserver.cli.users import add_user

    add_user(options.config, options.name, admin=options.admin, password_stdin=options.password_stdin)


def _user_reset_password(options: argparse.Namespace) -> None:
    from homeserver.cli.users import reset_password

    reset_password(options.config, options.name, password_stdin=options.password_stdin)


def _user_list(options: argparse.Namespace) -> None:
    from homeserver.cli.users import list_users

    list_users(options.config)


def _keys_rotate(options: argparse.Namespace) -> None:
    from homeserver.cli.keys import rotate

    rotate(options.config, stolen=options.stolen)


def _federation_list(options: argparse.Namespace) -> None:
    from homeserver.cli.federation import list_servers

    list_servers(options.config)


def _federation_retry(options: argparse.Namespace) -> None:
    from homeserver.cli.federation import retry

    retry(options.config, options.server_name)


def _config_check(options: argparse.Namespace) -> None:
    from homeserver.cli.config import check

    check(options.config)


def _config_sample(options: argparse.Namespace) -> None:
    from homeserver.cli.config import sample

    sample()


def _version(options: argparse.Namespace) -> None:
    from homeserver.cli.version import version

    version()
