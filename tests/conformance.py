"""Holds every response that a test's client receives against the specification's own documents.

The checker is the ``conformance`` package in ``../shared`` beside the checkout (or in VECHE_SHARED).
Where that is missing, responses pass unchecked, and the end of the run says so.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

CHECKOUT = Path(__file__).resolve().parents[1]
RECORDING = CHECKOUT / "conformance.jsonl"
CLIENT_SERVER = "client-server"
SERVER_SERVER = "server-server"
OPERATIONS_MIN = 120
"""How many client-server operations the whole suite has to see answered successfully."""

DELAYED = "?org.matrix.msc4140.delay="
SERVER_OPERATIONS_MIN = 34
"""Likewise, of operations that servers call: all but the two of media."""

FORMER = ("/_matrix/federation/v1/send_join/", "/_matrix/federation/v1/send_leave/")
"""Requests that the documents no longer have; older servers know no other."""

LEFT_OUT = "no ../shared/conformance beside the checkout (VECHE_SHARED names another folder that holds it)"


class SpecificationViolation(AssertionError):
    """A response that does not have the shape which the specification gives it."""


def shared_folder() -> Path | None:
    """The folder that holds ``conformance/`` and ``spec/``, or None."""
    folder = Path(os.environ.get("VECHE_SHARED") or CHECKOUT.parent / "shared")
    return folder if (folder / "conformance" / "__init__.py").exists() else None


def load_checker() -> Any:
    """The ``conformance`` package, or None where there is none."""
    folder = shared_folder()
    if folder is None:
        return None
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    return importlib.import_module("conformance")


def _is_about_token(body: bytes) -> bool:
    """Whether a 401 is the standard refusal of a missing or spent access token.

    The documents know only one kind of 401 where an operation takes User-Interactive Authentication: the
    one with its flows. The standard errors hold there too ("Using access tokens").
    """
    try:
        error = json.loads(body)
    except ValueError:
        return False
    if not isinstance(error, dict) or not isinstance(error.get("error"), str):
        return False
    return error.get("errcode") in ("M_MISSING_TOKEN", "M_UNKNOWN_TOKEN", "M_USER_LOCKED")


def _is_conditional_challenge(raw_path: str, body: bytes) -> bool:
    """Whether a 401 asks for User-Interactive Authentication where the documents say so in words only.

    "UIA is not always required for this endpoint", so its document lists no 401; the form is that of
    definitions/auth_response.yaml.
    """
    if not raw_path.endswith("/keys/device_signing/upload"):
        return False
    challenge = json.loads(body)
    flows = challenge.get("flows")
    return (
        isinstance(flows, list)
        and all(isinstance(flow.get("stages"), list) for flow in flows)
        and isinstance(challenge.get("session"), str)
        and isinstance(challenge.get("params"), dict)
    )


class Observer(Protocol):
    """Is shown every response."""

    def observe(self, method: str, raw_path: str, status: int, content_type: str, body: bytes) -> None:
        """Raises SpecificationViolation."""


@dataclass(slots=True)
class Exchanges:
    """The exchanges of one test run, recorded in a file and counted here."""

    recorder: Any = None
    count: int = 0
    succeeded: set[str] = field(default_factory=set)
    succeeded_for_servers: set[str] = field(default_factory=set)
    violations: dict[str, str] = field(default_factory=dict)

    @classmethod
    def recording(cls, file: Path = RECORDING) -> Exchanges:
        """A recording that is added to ``file``, or one that checks nothing where the checker is missing."""
        checker = load_checker()
        return cls(checker.Recorder(file) if checker else None)

    def observe(self, method: str, raw_path: str, status: int, content_type: str, body: bytes) -> None:
        """Check one exchange. Raises SpecificationViolation, and remembers it for the report."""
        self.count += 1
        if self.recorder is None:
            return
        if status == 401 and (_is_about_token(body) or _is_conditional_challenge(raw_path, body)):
            return
        if DELAYED in raw_path:  # MSC4140 gives these operations another answer
            return
        verdict = self.recorder.observe(method, raw_path, status, content_type, body)
        operation = verdict.operation
        if operation is None:
            return
        if verdict.problems:
            where = f"{operation.name} -> {status}"
            self.violations[where] = "; ".join(verdict.problems)
            raise SpecificationViolation(f"{where}: {self.violations[where]}\n{body[:1000]!r}")
        if status < 400 and operation.api == CLIENT_SERVER:
            self.succeeded.add(operation.name)
        elif status < 400 and operation.api == SERVER_SERVER:
            self.succeeded_for_servers.add(operation.name)

    def observe_request(self, method: str, raw_path: str, body: bytes) -> None:
        """Check a request of a node to another server. Raises SpecificationViolation, and remembers it."""
        if self.recorder is None or raw_path.startswith(FORMER):
            return
        from tests.request_shapes import request_problems  # it needs what only the checker needs

        problems = list(request_problems(self.recorder.specification, method, raw_path, body))
        if problems:
            where = f"request {method} {raw_path.partition('?')[0]}"
            self.violations[where] = "; ".join(problems)
            raise SpecificationViolation(f"{where}: {self.violations[where]}\n{body[:1000]!r}")

    def summary(self) -> dict[str, Any]:
        """All that was counted, as JSON: what one of several processes hands to the one above it."""
        return {
            "count": self.count,
            "succeeded": sorted(self.succeeded),
            "succeeded_for_servers": sorted(self.succeeded_for_servers),
            "violations": self.violations,
        }

    def add(self, summary: dict[str, Any]) -> None:
        """Count what another process has seen."""
        self.count += summary["count"]
        self.succeeded.update(summary["succeeded"])
        self.succeeded_for_servers.update(summary["succeeded_for_servers"])
        self.violations.update(summary["violations"])

    def shortcomings(self, complete: Collection[str]) -> list[str]:
        """Why the run has failed as a whole, a line each. ``complete``: folders all of whose tests ran."""
        found = [f"violation: {where}: {what}" for where, what in sorted(self.violations.items())]
        if self.recorder is None:
            return found
        for folder, api, seen, wanted in (
            ("api", CLIENT_SERVER, self.succeeded, OPERATIONS_MIN),
            ("server_server", SERVER_SERVER, self.succeeded_for_servers, SERVER_OPERATIONS_MIN),
        ):
            if folder in complete and len(seen) < wanted:
                found.append(
                    f"{len(seen)} {api} operations answered successfully, where there should be {wanted};"
                    f" python -m conformance report {RECORDING.name} --missing names the others"
                )
        return found

    def report(self) -> list[str]:
        """What to print at the end of the run, a line each."""
        if self.recorder is None:
            return [f"{self.count} responses were not held against the specification: {LEFT_OUT}"]
        operations = [o for o in self.recorder.specification.operations if o.api == CLIENT_SERVER]
        lines = [
            f"{self.count} responses, {len(self.violations)} violations",
            f"{len(self.succeeded)} of {len(operations)} client-server operations answered successfully"
            " and in the specified shape",
        ]
        if self.succeeded_for_servers:
            federation = [o for o in self.recorder.specification.operations if o.api == SERVER_SERVER]
            count = len(self.succeeded_for_servers)
            lines.append(f"{count} of {len(federation)} server-server operations likewise")
        return lines
