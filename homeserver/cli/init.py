"""``veche init``: a configuration file and keys for a new server."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Any

from federation.keys import SigningKey
from homeserver.cli.errors import CommandError
from homeserver.config.load import parse_config
from homeserver.config.sample import render_sample
from homeserver.config.secrets import new_shared_secret, write_new_secret
from homeserver.config.server_name import DoubtfulServerName, check_new_server_name

SIGNING_KEY_FILE = "signing.key"
SHARED_SECRET_FILE = "registration.secret"


def init(
    server_name: str, config_path: Path, data_dir: Path | None, *, force: bool, listen: str | None
) -> None:
    """Write the configuration, the signing key and the registration secret, all new, beside one another.

    Raises DoubtfulServerName, and CommandError if any of the files exists: nothing is ever replaced.
    """
    try:
        check_new_server_name(server_name, force=force)
    except DoubtfulServerName as doubt:
        hint = " (--force takes it all the same)" if doubt.forceable else ""
        raise CommandError(f"{doubt}{hint}") from doubt
    folder = config_path.absolute().parent
    for path in (config_path, folder / SIGNING_KEY_FILE, folder / SHARED_SECRET_FILE):
        if path.exists():
            raise CommandError(
                f"{path} exists: this server has been set up. `veche serve --config {config_path}` runs it; "
                "for another server, use another folder"
            )
    server: dict[str, Any] = {"server_name": server_name}
    if data_dir is not None:
        server["data_dir"] = str(data_dir.absolute())
    if server_name.partition(":")[0] == "localhost":
        server["public_baseurl"] = f"http://{listen or '127.0.0.1:8008'}"
    settings: dict[str, dict[str, Any]] = {
        "server": server,
        "registration": {"shared_secret_file": SHARED_SECRET_FILE},
    }
    text = render_sample(settings, client_listener=_listener(listen))

    parse_config(text, "--listen" if listen else str(config_path))  # before anything is written

    folder.mkdir(parents=True, exist_ok=True)
    write_new_secret(folder / SIGNING_KEY_FILE, SigningKey.generate().to_line())
    write_new_secret(folder / SHARED_SECRET_FILE, new_shared_secret())
    # Last, so that a configuration that exists is complete.
    fd = os.open(config_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
    with os.fdopen(fd, "w") as file:
        file.write(text)
    print(
        f"{config_path} is ready: a server named {server_name}, which is for ever.\n"
        f"Keep a copy of {folder / SIGNING_KEY_FILE} in a safe place: it proves that the server is itself.\n"
        f"Next:\n"
        f"  veche serve --config {config_path}\n"
        f"  veche user add --admin --config {config_path} NAME"
    )


def _listener(listen: str | None) -> dict[str, Any]:
    """``127.0.0.1:8008`` or ``[::1]:8008`` as settings of a listener. Raises CommandError."""
    if listen is None:
        return {}
    address, _, port = listen.rpartition(":")
    address = address.removeprefix("[").removesuffix("]")
    try:
        ipaddress.ip_address(address)
        number = int(port)
    except ValueError as error:
        raise CommandError(
            f"--listen takes an IP address and a port, such as 127.0.0.1:8008, not {listen!r}"
        ) from error
    return {"address": address, "port": number}
