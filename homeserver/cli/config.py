"""``veche config``: check a configuration, or print a commented one."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from homeserver.config.load import ConfigError, load_config
from homeserver.config.sample import render_sample
from homeserver.config.secrets import load_signing_key
from homeserver.config.sections import Config


def check(config_path: Path) -> None:
    """Print that the configuration can be used. Raises ConfigError at the first thing that is wrong."""
    config = load_config(config_path)
    check_files(config)
    where = ", ".join(f"{listener.address}:{listener.port}" for listener in config.listeners)
    name, mode = config.server.server_name, config.registration.mode
    print(f"{config_path} is fine: {name} on {where}, registration {mode}")


def check_files(config: Config) -> None:
    """Raise ConfigError if a file that the configuration names cannot be used."""
    load_signing_key(Path(config.server.signing_key_file))
    for listener in config.listeners:
        if listener.tls_certificate is not None and listener.tls_key is not None:
            try:
                ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
                    listener.tls_certificate, listener.tls_key
                )
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(
                    f"[listeners] tls_certificate {listener.tls_certificate} and tls_key {listener.tls_key} "
                    f"cannot be used: {error}"
                ) from error
    if config.federation.ca_file is not None and not os.access(config.federation.ca_file, os.R_OK):
        raise ConfigError(f"[federation] ca_file: {config.federation.ca_file} cannot be read")


def sample() -> None:
    """Print the commented configuration of which a copy is in ``configs/``."""
    print(render_sample({}), end="")
