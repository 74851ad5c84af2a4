"""Password hashes: argon2id, computed in threads of their own.

The library releases the interpreter lock while it hashes, so the event loop goes on meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from homeserver.config.people import AuthConfig
from homeserver.errors import InvalidParam, MatrixError, Unavailable

PASSWORD_MAX_BYTES = 1024
WAITING_MAX = 500  # hashes that wait for a thread; beyond, requests are refused

T = TypeVar("T")


class WeakPassword(MatrixError):
    """The password is too easy to guess (Client-Server API, "Password management")."""

    errcode = "M_WEAK_PASSWORD"


class Passwords:
    """Hashes and checks passwords with the configured parameters."""

    def __init__(self, config: AuthConfig) -> None:
        self._length_min = config.password_min_length
        self._hasher = PasswordHasher(
            time_cost=config.argon2_time_cost,
            memory_cost=config.argon2_memory_kib,
            parallelism=config.argon2_parallelism,
        )
        self._threads = ThreadPoolExecutor(config.hash_threads, thread_name_prefix="password")
        self._waiting = 0
        self._nobodys_hash: str | None = None

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def check_strength(self, password: str) -> None:
        """Raise WeakPassword for a password that is too short, InvalidParam for one that is far too long."""
        if len(password.encode(errors="replace")) > PASSWORD_MAX_BYTES:
            raise InvalidParam(f"A password may have {PASSWORD_MAX_BYTES} bytes at most")
        if len(password) < self._length_min:
            raise WeakPassword(f"Choose a password of at least {self._length_min} characters")

    async def hash(self, password: str) -> str:
        """The encoded hash, with its parameters and a new salt. Raises Unavailable when too many wait."""
        return await self._in_thread(lambda: self._hasher.hash(password.encode(errors="replace")))

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Whether the password is the one hashed. Without a hash it is not, after the time that one takes:
        otherwise the answer's time would tell which accounts exist. Raises Unavailable.
        """
        if len(password) > PASSWORD_MAX_BYTES:
            return False
        return await self._in_thread(lambda: self._verify(password_hash, password.encode(errors="replace")))

    def needs_rehash(self, password_hash: str) -> bool:
        """Whether a hash was made with other parameters than the configured ones."""
        return self._hasher.check_needs_rehash(password_hash)

    def _verify(self, password_hash: str | None, password: bytes) -> bool:
        if password_hash is None:
            if self._nobodys_hash is None:
                self._nobodys_hash = self._hasher.hash(b"nobody's")
            self._matches(self._nobodys_hash, password)
            return False
        return self._matches(password_hash, password)

    def _matches(self, password_hash: str, password: bytes) -> bool:
        try:
            return self._hasher.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _in_thread(self, work: Callable[[], T]) -> T:
        if self._waiting >= WAITING_MAX:
            raise Unavailable("Too many people are logging in: try again in a few seconds")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1
