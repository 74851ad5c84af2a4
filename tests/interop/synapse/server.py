"""A Synapse of the tests: a process of its own, with SQLite, TLS by the tests' authority and no limits."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from tests.node import POLL_S, STOP_TIMEOUT_S, free_port
from tests.server_server.certificates import Certificate

START_TIMEOUT_S = 120.0
HERE = Path(__file__).parent
UNLIMITED = {"per_second": 1e6, "burst_count": 1_000_000}
LIMITED = (
    "rc_message",
    "rc_registration",
    "rc_joins_per_room",
    "rc_key_requests",
    "rc_room_creation",
    "rc_user_directory",
    "rc_profile",
)


def python() -> Path:
    """The interpreter that has Synapse: where `.ci/run` puts it, unless VECHE_SYNAPSE names another."""
    return Path(os.environ.get("VECHE_SYNAPSE") or HERE / ".venv" / "bin" / "python")


def what_is_missing() -> str | None:
    """Why Synapse cannot be run on this machine, or None."""
    if not python().exists():
        return "Synapse is not installed: .ci/run does that, or VECHE_SYNAPSE names a Python that has it"
    return None


class Unchecked:
    """Synapse's answers are not held against the specification."""

    def observe(self, method: str, raw_path: str, status: int, content_type: str, body: bytes) -> None:
        """Whatever it is."""


@dataclass(slots=True)
class Synapse:
    """A Synapse whose configuration, database and log are in ``folder``."""

    folder: Path
    server_name: str
    federation_port: int
    certificate: Certificate
    ca_file: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start it and return when it answers clients."""
        process = self.process = self._spawn(self._write_config())
        give_up = time.monotonic() + START_TIMEOUT_S
        async with aiohttp.ClientSession() as http:
            while not await self._answers(http):
                if process.poll() is not None or time.monotonic() > give_up:
                    await self.stop()
                    raise RuntimeError(f"Synapse did not start:\n{self.log()[-4000:]}")
                await asyncio.sleep(POLL_S)

    def _spawn(self, config: Path) -> subprocess.Popen[bytes]:
        with (self.folder / "synapse.log").open("ab") as log:
            return subprocess.Popen(
                [str(python()), "-m", "synapse.app.homeserver", "--config-path", str(config)],
                cwd=self.folder,
                env={"PATH": os.environ.get("PATH", ""), "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def _answers(self, http: aiohttp.ClientSession) -> bool:
        try:
            async with http.get(f"{self.url}/_matrix/client/versions") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False

    async def stop(self) -> None:
        """End it; nothing of it is used again."""
        if self.process is None:
            return
        process, self.process = self.process, None
        if process.poll() is None:
            os.kill(process.pid, signal.SIGTERM)
        try:
            await asyncio.to_thread(process.wait, STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()

    def log(self) -> str:
        return (self.folder / "synapse.log").read_text(errors="replace")

    def _write_config(self) -> Path:
        key = self.folder / "signing.key"
        seed = base64.b64encode(os.urandom(32)).decode().rstrip("=")
        key.write_text(f"ed25519 synapse {seed}\n")
        config = self.folder / "homeserver.yaml"
        config.write_text(json.dumps(self._settings(key)))  # which is YAML too
        return config

    def _settings(self, key: Path) -> dict[str, object]:
        return {
            "server_name": self.server_name,
            "public_baseurl": f"{self.url}/",
            "pid_file": str(self.folder / "synapse.pid"),
            "media_store_path": str(self.folder / "media"),
            "signing_key_path": str(key),
            "report_stats": False,
            "allow_public_rooms_over_federation": True,
            "room_list_publication_rules": [{"action": "allow"}],
            "suppress_key_server_warning": True,
            "trusted_key_servers": [],
            "database": {"name": "sqlite3", "args": {"database": str(self.folder / "synapse.db")}},
            "macaroon_secret_key": "of the tests",
            "registration_shared_secret": "of the tests",
            "enable_registration": True,
            "enable_registration_without_verification": True,
            "password_config": {"pepper": "of the tests"},
            "bcrypt_rounds": 4,
            "tls_certificate_path": str(self.certificate.certificate_file),
            "tls_private_key_path": str(self.certificate.key_file),
            "federation_custom_ca_list": [str(self.ca_file)],
            "ip_range_blacklist": [],
            "federation_ip_range_blacklist": [],
            "listeners": [
                self._listener(self.port, "client", tls=False),
                self._listener(self.federation_port, "federation", tls=True),
            ],
            # A partner that was away is tried again at once. Numbers are milliseconds.
            "federation": {
                "client_timeout": "10s",
                "max_short_retries": 1,
                "max_short_retry_delay": "1s",
                "max_long_retries": 1,
                "max_long_retry_delay": "1s",
                "destination_min_retry_interval": 500,
                "destination_max_retry_interval": 500,
            },
            "rc_login": dict.fromkeys(("address", "account", "failed_attempts"), UNLIMITED),
            "rc_joins": {"local": UNLIMITED, "remote": UNLIMITED},
            "rc_invites": dict.fromkeys(("per_room", "per_user", "per_issuer"), UNLIMITED),
            "rc_federation": {"sleep_limit": 100_000, "reject_limit": 1_000_000, "concurrent": 100},
            "federation_rr_transactions_per_room_per_second": 10_000,
            **dict.fromkeys(LIMITED, UNLIMITED),
        }

    @staticmethod
    def _listener(port: int, resource: str, *, tls: bool) -> dict[str, object]:
        return {
            "port": port,
            "type": "http",
            "bind_addresses": ["127.0.0.1"],
            "tls": tls,
            "resources": [{"names": [resource], "compress": False}],
        }
