"""One company's node: its names, ports, files and configuration."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from federation.keys import SigningKey
from homeserver.config.sample import toml_key, toml_value
from homeserver.config.secrets import new_shared_secret, write_new_secret
from scripts.companies.authority import Authority

CHECKOUT = Path(__file__).resolve().parents[2]
NAMES = ("acme", "globex", "initech", "hooli", "umbrella", "cyberdyne", "tyrell", "wonka")
PEOPLE = ("alice", "bob")
ADDRESS = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Company:
    """A node on loopback; everything it keeps is in ``folder``."""

    name: str
    folder: Path
    client_port: int
    federation_port: int

    @property
    def server_name(self) -> str:
        """Browsers take what ends in localhost for this machine, and so nobody takes it for another."""
        return f"{self.name}.localhost"

    @property
    def url(self) -> str:
        return f"http://{ADDRESS}:{self.client_port}"

    @property
    def log_file(self) -> Path:
        return self.folder / "node.log"

    @property
    def secret_file(self) -> Path:
        return self.folder / "registration.secret"

    def user_id(self, person: str) -> str:
        return f"@{person}:{self.server_name}"

    def password(self, person: str) -> str:
        """Known to everyone, as the nodes listen on loopback only."""
        return f"{person}-of-{self.name}"

    def set_up(self, authority: Authority, companies: Sequence[Company]) -> None:
        """Make the keys and the certificate once, the configuration anew: companies may have been added."""
        self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        key_file = self.folder / "signing.key"
        if not key_file.exists():
            write_new_secret(key_file, SigningKey.generate().to_line())
        if not self.secret_file.exists():
            write_new_secret(self.secret_file, new_shared_secret())
        certificate = self.folder / "tls.pem", self.folder / "tls.key"
        authority.certify(self.server_name, *certificate)
        (self.folder / "veche.toml").write_text(self._configuration(authority, companies, *certificate))

    def _configuration(
        self, authority: Authority, companies: Sequence[Company], certificate: Path, key: Path
    ) -> str:
        tables: list[tuple[str, Mapping[str, Any]]] = [
            (
                "[server]",
                {
                    "server_name": self.server_name,
                    "data_dir": "data",
                    "signing_key_file": "signing.key",
                    "public_baseurl": self.url,
                },
            ),
            (
                "[[listeners]]",
                {"address": ADDRESS, "port": self.client_port, "purposes": ("client", "metrics")},
            ),
            (
                "[[listeners]]",
                {
                    "address": ADDRESS,
                    "port": self.federation_port,
                    "purposes": ("federation",),
                    "tls_certificate": str(certificate),
                    "tls_key": str(key),
                },
            ),
            ("[registration]", {"shared_secret_file": str(self.secret_file)}),
            (
                "[federation]",
                {
                    "mode": "closed",
                    "allowed_servers": [each.server_name for each in companies],
                    "hosts": {each.server_name: f"{ADDRESS}:{each.federation_port}" for each in companies},
                    "ca_file": str(authority.ca_file),
                },
            ),
        ]
        return "\n".join(
            line
            for header, settings in tables
            for line in (header, *(f"{toml_key(k)} = {toml_value(v)}" for k, v in settings.items()), "")
        )

    def serve(self) -> subprocess.Popen[bytes]:
        """Start the node."""
        with self.log_file.open("ab") as log:
            return subprocess.Popen(
                (sys.executable, "-m", "homeserver", "serve", "--config", str(self.folder / "veche.toml")),
                cwd=CHECKOUT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for `scripts/network`, which stops the nodes
            )
