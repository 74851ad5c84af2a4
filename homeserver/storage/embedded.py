"""PostgreSQL in the data folder, for nodes that name no server of their own.

The cluster is ``data_dir/postgres``; its only socket lies inside it, so whoever may enter that folder is who
may connect. Every process that uses the cluster (the node, the command line beside it) holds a shared lock
on ``data_dir/postgres.lock``: the first one starts the database, the last one to leave stops it. A process
that is killed loses its lock and leaves the database running; the next one adopts it.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import signal
import subprocess
from pathlib import Path
from types import TracebackType
from typing import BinaryIO
from urllib.parse import quote

from homeserver.storage.postgres_binaries import (
    MAJOR_VERSION,
    Account,
    EmbeddedPostgresError,
    database_account,
    find_programs,
    require_reachable,
)

ROLE = "veche"
SOCKET_NAME = ".s.PGSQL.5432"
SOCKET_PATH_BYTES_MAX = 107  # sun_path of unix(7), less the final zero
START_TIMEOUT_S = 120.0  # recovery after a crash replays up to max_wal_size
STOP_TIMEOUT_S = 60.0
LOCK_TIMEOUT_S = 120.0
LOG_BYTES_MAX = 8 * 1024 * 1024
POLL_S = 0.003
_STATUS_LINE = 7  # of postmaster.pid
_STILL_IN_USE = "still in use"  # in PostgreSQL's own words, of a killed server's shared memory


class EmbeddedPostgres:
    """One cluster below ``data_dir``, shared with other processes of this machine.

    ``durable=False`` turns fsync off, for tests that never crash the machine or the database.
    """

    def __init__(self, data_dir: Path, *, shared_buffers_bytes: int, durable: bool = True) -> None:
        self._data_dir = data_dir.absolute()
        self._cluster = self._data_dir / "postgres"
        self._shared_buffers_bytes = shared_buffers_bytes
        self._durable = durable
        self._account: Account | None = None
        self._lock_fd: int | None = None
        self._cluster_fd: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._stale_pid_file: tuple[int, int] | None = None
        self._log_offset = 0
        self.pid: int | None = None

    def dsn(self, database: str) -> str:
        """The URL of one of the cluster's databases, once it is started, for this process only.

        A socket's path is at most 107 bytes; below a longer one it is reached through an open folder.
        """
        host = str(self._cluster)
        if len(os.fsencode(self._cluster / SOCKET_NAME)) > SOCKET_PATH_BYTES_MAX:
            if self._cluster_fd is None:
                self._cluster_fd = os.open(self._cluster, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            host = f"/proc/self/fd/{self._cluster_fd}"
        return f"postgresql://{ROLE}@/{database}?host={quote(host, safe='')}"

    async def __aenter__(self) -> EmbeddedPostgres:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Create the cluster if there is none, and start it unless it runs. Raises EmbeddedPostgresError."""
        self._prepare_folder()
        alone = await self._lock()
        try:
            if alone:
                await self._create()
                await self._run()
                self._share_lock()
            else:
                self.pid = self._running_pid()
                if self.pid is None:
                    raise EmbeddedPostgresError(
                        f"another process uses {self._cluster}, but the database does not run; "
                        "if it does not restart by itself, stop that process"
                    )
                await self._wait_until_ready()
        except BaseException:
            self._unlock()
            raise

    async def stop(self) -> None:
        """Leave the database; stop it, with a checkpoint, if no other process uses it."""
        if self._lock_fd is None:
            return
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass  # others still use it
        else:
            await self._shut_down()
        finally:
            self._unlock()

    async def keep_running(self) -> None:
        """Start the database again whenever it ends: a background task for the node. Never returns.

        Raises EmbeddedPostgresError if it does not start again.
        """
        while True:
            await self._ended()
            if self._process is not None:
                self._process.wait()  # it has ended: this only collects it
            await self._run()

    def _prepare_folder(self) -> None:
        self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._account = database_account(self._cluster)
        if self._account is not None:
            if self._data_dir.stat().st_uid == 0:
                os.chmod(self._data_dir, self._data_dir.stat().st_mode | 0o011)  # may be entered, not listed
            require_reachable(self._data_dir, self._account)

    # --- the lock

    async def _lock(self) -> bool:
        """Take the lock: True if nobody else has it (then exclusively), False if others share it."""
        self._lock_fd = os.open(
            self._data_dir / "postgres.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        loop = asyncio.get_running_loop()
        deadline = loop.time() + LOCK_TIMEOUT_S
        while loop.time() < deadline:
            for kind, alone in ((fcntl.LOCK_EX, True), (fcntl.LOCK_SH, False)):
                try:
                    fcntl.flock(self._lock_fd, kind | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                return alone
            await asyncio.sleep(0.02)  # another process is starting or stopping the database
        self._unlock()
        raise EmbeddedPostgresError(
            f"another process holds {self._data_dir / 'postgres.lock'} and does not let go"
        )

    def _share_lock(self) -> None:
        assert self._lock_fd is not None
        fcntl.flock(self._lock_fd, fcntl.LOCK_SH)

    def _unlock(self) -> None:
        for fd in (self._lock_fd, self._cluster_fd):
            if fd is not None:
                os.close(fd)
        self._lock_fd = self._cluster_fd = None

    # --- creating

    async def _create(self) -> None:
        version_file = self._cluster / "PG_VERSION"
        if version_file.exists():
            version = version_file.read_text().strip()
            if version != str(MAJOR_VERSION):
                raise EmbeddedPostgresError(
                    f"{self._cluster} was made by PostgreSQL {version}, this release brings {MAJOR_VERSION}: "
                    "restore a backup made with the earlier release into a new folder"
                )
            return
        # Made beside, then renamed: whoever finds the cluster finds all of it.
        partial = self._data_dir / "postgres.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700)
        if self._account is not None:
            os.chown(partial, self._account.uid, self._account.gid)
        arguments = [
            *("-D", str(partial), "-U", ROLE, "--auth=trust", "--encoding=UTF8", "--no-instructions"),
            # Order by code point, on every machine alike, and by memcmp.
            *("--no-locale", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
            *(() if self._durable else ("--no-sync",)),
        ]
        process = self._popen("initdb", arguments, partial, subprocess.PIPE)
        output, _ = await asyncio.to_thread(process.communicate)
        if process.returncode:
            reason = output.decode(errors="replace").strip()[-2000:]
            raise EmbeddedPostgresError(f"the database could not be created: {reason}")
        partial.rename(self._cluster)

    def _popen(
        self, program: str, arguments: list[str], folder: Path, output: int | BinaryIO
    ) -> subprocess.Popen[bytes]:
        account = self._account
        return subprocess.Popen(
            [str(find_programs(self._data_dir, account) / program), *arguments],
            cwd=folder,
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # A Ctrl-C in the terminal is for the node, which stops the database when it needs it no more.
            start_new_session=True,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )

    # --- running

    async def _run(self) -> None:
        """Start the server, or adopt the one that an earlier process left; return when it is ready."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + START_TIMEOUT_S
        while True:
            self.pid = self._running_pid()
            adopted = self.pid is not None
            try:
                if not adopted:
                    self._remove_stale_pid_files()
                    self._spawn()
                await self._wait_until_ready()
            except EmbeddedPostgresError as error:
                # An adopted server may be stopping; backends of a killed one hold its memory for a moment.
                passing = adopted or _STILL_IN_USE in str(error)
                if not passing or loop.time() > deadline:
                    raise
                await asyncio.sleep(0.05)
            else:
                return

    def _spawn(self) -> None:
        log_path = self._data_dir / "postgres.log"
        if log_path.exists() and log_path.stat().st_size > LOG_BYTES_MAX:
            log_path.replace(log_path.with_suffix(".log.old"))
        self._log_offset = log_path.stat().st_size if log_path.exists() else 0
        self._stale_pid_file = self._pid_file_version()
        with log_path.open("ab") as log:
            self._process = self._popen(
                "postgres", ["-D", str(self._cluster), *self._settings()], self._cluster, log
            )
        self.pid = self._process.pid

    def _settings(self) -> list[str]:
        switch = "on" if self._durable else "off"
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": ".",
            "unix_socket_permissions": "0700",
            "port": "5432",
            "fsync": switch,
            "full_page_writes": switch,
            "synchronous_commit": switch,
            "shared_buffers": f"{self._shared_buffers_bytes // 1024}kB",
            "work_mem": "8MB",
            "maintenance_work_mem": "32MB",
            "effective_cache_size": "1GB",
            "random_page_cost": "1.1",
            "max_wal_size": "1GB",
            "checkpoint_timeout": "15min",
            "log_checkpoints": "off",
            # All queries are short ones by key: compiling, or workers in parallel, would never pay.
            "jit": "off",
            "max_parallel_workers_per_gather": "0",
            "max_parallel_maintenance_workers": "0",
            "autovacuum_max_workers": "2",
            "io_method": "sync",
            "log_min_messages": "warning",
            "log_line_prefix": "%m [%p] ",
            "log_min_error_statement": "panic",  # a statement's parameters are people's data
            "log_parameter_max_length_on_error": "0",
            "log_error_verbosity": "terse",  # no DETAIL, which quotes rows
            "cluster_name": "veche",
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]

    def _read_pid_file(self) -> list[str]:
        try:
            return (self._cluster / "postmaster.pid").read_text().split("\n")
        except FileNotFoundError:
            return []

    def _running_pid(self) -> int | None:
        """The pid of this cluster's server, if it runs: a pid file alone may name somebody else's process."""
        lines = self._read_pid_file()
        if lines and lines[0].strip().isdigit() and _works_in(int(lines[0]), self._cluster):
            return int(lines[0])
        return None

    def _remove_stale_pid_files(self) -> None:
        """Remove what a killed server left, if its pid now is another process's (as in a new container).

        PostgreSQL looks only whether such a process exists, and would refuse to start. Otherwise the file
        stays: by it PostgreSQL knows whether backends of the killed server still write.
        """
        lines = self._read_pid_file()
        if lines and lines[0].strip().isdigit() and Path(f"/proc/{lines[0].strip()}").exists():
            pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
            if any(_works_in(pid, self._cluster) for pid in pids):
                raise EmbeddedPostgresError(f"processes of a database that was killed {_STILL_IN_USE}")
            for name in ("postmaster.pid", f"{SOCKET_NAME}.lock"):
                (self._cluster / name).unlink(missing_ok=True)

    def _pid_file_version(self) -> tuple[int, int] | None:
        try:
            status = (self._cluster / "postmaster.pid").stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns

    async def _wait_until_ready(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + START_TIMEOUT_S
        while loop.time() < deadline:
            lines = self._read_pid_file()
            # In a container a killed server's file may bear the new one's pid: it must be another file, too.
            if (
                len(lines) > _STATUS_LINE
                and lines[0] == str(self.pid)
                and lines[_STATUS_LINE].strip() == "ready"
                and self._pid_file_version() != self._stale_pid_file
            ):
                return
            if not self._is_alive():
                log_path = self._data_dir / "postgres.log"
                raise EmbeddedPostgresError(
                    f"the database did not start; {log_path} says: {self._last_log()}"
                )
            await asyncio.sleep(POLL_S)
        raise EmbeddedPostgresError(f"the database was not ready after {START_TIMEOUT_S:.0f} s")

    def _is_alive(self) -> bool:
        if self._process is not None and self._process.pid == self.pid:
            return self._process.poll() is None
        return self.pid is not None and _works_in(self.pid, self._cluster)

    def _last_log(self) -> str:
        """What the server that we started last has logged, at most its last 2,000 bytes."""
        with (self._data_dir / "postgres.log").open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_offset, size - 2000))
            return log.read().decode(errors="replace").strip()

    # --- ending

    async def _ended(self) -> None:
        """Return when the server has ended, at once if it has."""
        if self.pid is None:
            return
        try:
            pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        try:
            if not self._is_alive():  # the pid was somebody else's by now
                return
            loop.add_reader(pidfd, ended.set)
            await ended.wait()
        finally:
            loop.remove_reader(pidfd)
            os.close(pidfd)

    async def _shut_down(self) -> None:
        """Stop the server: connections are cut, then a checkpoint is made, so that it starts fast again."""
        for sent in (signal.SIGINT, signal.SIGQUIT):  # PostgreSQL's "fast", then "immediate"
            if self.pid is None or not self._is_alive():
                break
            os.kill(self.pid, sent)
            try:
                await asyncio.wait_for(self._ended(), STOP_TIMEOUT_S)
            except TimeoutError:
                continue
            break
        if self._process is not None:
            self._process.wait(timeout=STOP_TIMEOUT_S)
        self._process = self.pid = None


def _works_in(pid: int, cluster: Path) -> bool:
    """Whether ``pid`` is a live process of the PostgreSQL that serves ``cluster``."""
    try:
        if Path(f"/proc/{pid}/comm").read_text().strip() != "postgres":
            return False
        return os.path.samefile(f"/proc/{pid}/cwd", cluster)  # fails for a zombie
    except OSError:
        return False
