"""Other servers' keys: fetched when they are needed, kept in memory and in the database.

Source: Server-Server API, "Retrieving server keys", "Validating hashes and signatures on received events".
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random

import orjson
import structlog

from federation.backoff import Backoffs
from federation.canonical import JsonObject
from federation.errors import FederationError
from federation.keys import VerifyKey
from federation.request_auth import Credentials, verify_request
from federation.room_versions import RoomVersion
from federation.server_keys import ServerKeys, read_server_keys, retired_keys, succeed, with_retired
from federation.signing import required_signers, signing_key_ids, verify_event
from federation.transactions import PDUS_MAX
from federation.transport.single_flight import SingleFlight
from homeserver.clock import Clock, now_ms
from homeserver.federating.key_fetching import KeyFetching
from homeserver.federating.own_keys import OwnKeys
from homeserver.loading_cache import LoadingCache
from homeserver.storage import server_keys as sql
from homeserver.storage.connection import Pool
from homeserver.storage.server_keys import ServerKeysRow

log = structlog.get_logger()

REFETCH_MIN_MS = 10_000
"""A server is not asked again sooner, however many unknown keys requests in its name claim."""
FAILURES_FORGIVEN = 2
"""Whoever asks a notary for keys by name makes it try in spite of so many failures in a row."""
FETCHES_MAX = 32
WAITING_MAX = 1_000
ENTRY_BYTES = 4_000  # of one server's keys in memory, about
FETCH_ALL_S = 60.0  # for the keys of many events together
THREADED_FROM = PDUS_MAX + 1
"""Events: those of one transaction are checked on the loop, at about 60 µs each. In a busy process a thread
waits for its turn longer than that, which every event of a burst would feel."""

Wanted = tuple[int, frozenset[str]]
"""The time of an event, and the keys by which it is signed."""
Choose = Callable[[ServerKeys], Mapping[str, VerifyKey]]


@dataclass(frozen=True, slots=True)
class _Known:
    """What we have of one server; ``keys`` is None until a fetch succeeded."""

    keys: ServerKeys | None
    fetched_ms: int


NOTHING = _Known(None, 0)


class KeyRing:
    """Verifies what other servers signed. Fetches are one at a time a server, and `FETCHES_MAX` in all."""

    def __init__(
        self,
        pool: Pool,
        own: OwnKeys,
        fetching: KeyFetching,
        notaries: Sequence[str],
        *,
        cache_bytes: int,
        clock: Clock = now_ms,
    ) -> None:
        self._pool = pool
        self._own = own
        self._fetching = fetching
        self._notaries = notaries
        self._clock = clock
        self._random = Random()
        self._cache: LoadingCache[str, _Known] = LoadingCache(self._load, lambda *_: ENTRY_BYTES, cache_bytes)
        self._flights: SingleFlight[str, _Known] = SingleFlight()
        self._slots = asyncio.Semaphore(FETCHES_MAX)
        self._backoffs = Backoffs()

    @property
    def size_bytes(self) -> int:
        """About what the keys in memory take."""
        return self._cache.size_bytes

    async def verify_request(
        self, credentials: Credentials, method: str, uri: str, body: bytes | None
    ) -> None:
        """Check that a request to us is of the origin that it claims. Raises BadSignature.

        ``body`` has been parsed as JSON; ``uri`` is the target as received.
        """
        keys = await self._find(
            credentials.origin, (credentials.key_id,), lambda keys: keys.for_requests(self._clock())
        )
        verify_request(credentials, method, uri, self._own.server_name, body, keys)

    async def verify_event(self, json: JsonObject, version: RoomVersion) -> None:
        """Check all signatures that an event needs, by the keys valid at its time.

        ``json`` passed `event_format.check_format`. Raises BadSignature, MalformedEvent, NotCanonical.
        """
        (failure,) = await self.verify_events((json,), version)
        if failure is not None:
            raise failure

    async def verify_events(
        self, events: Sequence[JsonObject], version: RoomVersion
    ) -> list[FederationError | None]:
        """As `verify_event` for many: what is wrong with each, or None.

        The keys of all signing servers are fetched side by side; many signatures are checked off the loop.
        """
        threaded = len(events) >= THREADED_FROM
        if threaded:
            needed, signers, failures = await asyncio.to_thread(_needed, events, version)
        else:
            needed, signers, failures = _needed(events, version)
        with suppress(TimeoutError):  # servers that are gone do not hold up those that are there
            async with asyncio.timeout(FETCH_ALL_S):
                await asyncio.gather(
                    *(self._fetch_for_events(server, wanted, version) for server, wanted in needed.items())
                )
        known = {server: (await self._get(server)).keys for server in needed}

        def check() -> None:
            for index, json in enumerate(events):
                if failures[index] is not None:
                    continue
                at = json["origin_server_ts"]
                keys = {
                    server: found.for_event(version, at)
                    for server in signers[index]
                    if (found := known[server]) is not None
                }
                try:
                    verify_event(json, version, keys)
                except FederationError as error:
                    failures[index] = error

        if threaded:
            await asyncio.to_thread(check)
        else:
            check()
        return failures

    async def documents(
        self, server_name: str, minimum_valid_until_ms: int, key_ids: Collection[str] = ()
    ) -> list[JsonObject]:
        """A server's newest key document, for others; before it, if it lacks some of ``key_ids``, the last
        ones that had them: "so that the signatures of old events can still be checked".

        Fetched again when half of its lifetime is over, or where it is not valid for long enough; not for who
        asks about a time in the past of which all is known.
        """
        if server_name == self._own.server_name:
            return [self._own.document()]
        now = self._clock()

        def known_then(keys: ServerKeys, key_id: str) -> bool:
            if key_id in keys.verify_keys:
                return minimum_valid_until_ms <= keys.valid_until_ms
            old = keys.old_verify_keys.get(key_id)
            return old is not None and old.document is not None and minimum_valid_until_ms <= old.expired_ms

        def fresh(keys: ServerKeys, fetched_ms: int) -> bool:
            half_ms = fetched_ms + (keys.valid_until_ms - fetched_ms) // 2
            if key_ids and minimum_valid_until_ms < now and all(known_then(keys, one) for one in key_ids):
                return True
            return keys.valid_until_ms >= minimum_valid_until_ms and now <= half_ms

        known = await self._get(server_name)
        if known.keys is None or not fresh(known.keys, known.fetched_ms):
            # asked for by name and time, at a limited rate: not too early, however lately it was fetched
            known = await self._refresh(server_name, known, (), at_once=True)
        if known.keys is None:
            return []
        retired = known.keys.old_verify_keys
        earlier = (retired[key_id].document for key_id in dict.fromkeys(key_ids) if key_id in retired)
        return [*(document for document in earlier if document is not None), known.keys.json]

    async def _fetch_for_events(
        self, server: str, wanted: Collection[tuple[int, frozenset[str]]], version: RoomVersion
    ) -> None:
        for origin_server_ts, key_ids in wanted:
            if not key_ids:
                continue  # not signed at all: no key will help

            def valid_then(keys: ServerKeys, at: int = origin_server_ts) -> Mapping[str, VerifyKey]:
                return keys.for_event(version, at)

            await self._find(server, key_ids, valid_then)

    async def _find(self, server: str, key_ids: Collection[str], choose: Choose) -> Mapping[str, VerifyKey]:
        """The keys that ``choose`` lets count; fetched anew if none of ``key_ids`` is among them."""
        known = await self._get(server)
        found = choose(known.keys) if known.keys is not None else {}
        if any(key_id in found for key_id in key_ids) or server == self._own.server_name:
            return found
        known = await self._refresh(server, known, key_ids, choose)
        return choose(known.keys) if known.keys is not None else {}

    async def _get(self, server: str) -> _Known:
        if server == self._own.server_name:
            return _Known(self._own.current(), self._clock())
        return await self._cache.load(server)

    async def _refresh(
        self,
        server: str,
        known: _Known,
        key_ids: Collection[str],
        choose: Choose | None = None,
        *,
        at_once: bool = False,
    ) -> _Known:
        """What a fetch brings, or what is known if it is too early for one, or too many are waiting."""
        now = self._clock()
        too_early = known.keys is not None and not at_once and now < known.fetched_ms + REFETCH_MIN_MS
        if too_early or self._holds_back(server, now, FAILURES_FORGIVEN if at_once else 0):
            return known
        if len(self._flights) >= WAITING_MAX:
            log.warning("keys not fetched: too many fetches are waiting", server=server)
            return known
        return await self._flights.run(server, lambda: self._fetch(server, known, key_ids, choose))

    def _holds_back(self, server: str, now: int, forgiven: int) -> bool:
        backoff = self._backoffs.get(server)
        return backoff is not None and backoff.retry_at_ms > now and backoff.failures > forgiven

    async def _fetch(
        self, server: str, known: _Known, key_ids: Collection[str], choose: Choose | None
    ) -> _Known:
        async with self._slots:
            now = self._clock()
            keys = known.keys
            try:
                direct = await self._fetching.direct(server, now)
            except FederationError as error:
                log.info("keys not fetched", server=server, cause=str(error))
                failed = True
            else:
                failed = False
                keys = succeed(direct, keys) if keys is not None else direct
            if failed or (key_ids and not _helps(keys, key_ids, choose)):
                for notary in self._notaries:
                    for found in await self._ask_notary(notary, server, key_ids, now):
                        keys = _newest(keys, found) if keys is not None else found
                        failed = False
                    if _helps(keys, key_ids, choose):
                        break
        if keys is None or failed:
            self._backoffs.failed(server, self._clock(), self._random.random())
            return known
        self._backoffs.succeeded(server)
        row = ServerKeysRow(server, orjson.dumps(keys.json), orjson.dumps(retired_keys(keys)), now)
        await sql.store_keys(self._pool, row)
        fetched = _Known(keys, now)
        self._cache.put(server, fetched)
        return fetched

    async def _ask_notary(
        self, notary: str, server: str, key_ids: Collection[str], now: int
    ) -> list[ServerKeys]:
        if notary == server or notary == self._own.server_name:
            return []
        try:
            notary_known = await self._get(notary)
            notary_keys = notary_known.keys.for_requests(now) if notary_known.keys is not None else {}
            if not notary_keys:
                # Directly, not by `_refresh`: notaries are not asked about each other.
                fetched = await self._fetching.direct(notary, now)
                notary_keys = fetched.verify_keys
                document, retired = orjson.dumps(fetched.json), orjson.dumps({})
                await sql.store_keys(self._pool, ServerKeysRow(notary, document, retired, now))
                self._cache.put(notary, _Known(fetched, now))
            return await self._fetching.through(notary, notary_keys, server, key_ids, now)
        except FederationError as error:
            log.info("notary not usable", notary=notary, server=server, cause=str(error))
            return []

    async def _load(self, servers: Collection[str]) -> dict[str, _Known]:
        rows = {row.server_name: row for row in await sql.fetch_keys(self._pool, servers)}
        return {server: _read(rows[server]) if server in rows else NOTHING for server in servers}


def _needed(
    events: Sequence[JsonObject], version: RoomVersion
) -> tuple[dict[str, dict[Wanted, None]], list[Collection[str]], list[FederationError | None]]:
    """By server, the keys that are wanted; of each event, who has to sign it, and what is wrong with it."""
    needed: dict[str, dict[Wanted, None]] = {}
    signers: list[Collection[str]] = []
    failures: list[FederationError | None] = []
    for json in events:
        try:
            signers.append(required_signers(json, version))
        except FederationError as error:
            signers.append(())
            failures.append(error)
            continue
        failures.append(None)
        for server in signers[-1]:
            wanted = (json["origin_server_ts"], frozenset(signing_key_ids(json, server)))
            needed.setdefault(server, {})[wanted] = None
    return needed, signers, failures


def _read(row: ServerKeysRow) -> _Known:
    keys = read_server_keys(orjson.loads(row.document), row.server_name, row.fetched_ms)
    return _Known(with_retired(keys, orjson.loads(row.retired)), row.fetched_ms)


def _newest(known: ServerKeys, found: ServerKeys) -> ServerKeys:
    """A notary's document beside one that we have: the one that is valid for longer leads."""
    if found.valid_until_ms > known.valid_until_ms:
        return succeed(found, known)
    return succeed(known, found)


def _helps(keys: ServerKeys | None, key_ids: Collection[str], choose: Choose | None) -> bool:
    if keys is None:
        return False
    found = choose(keys) if choose is not None else keys.verify_keys
    return not key_ids or any(key_id in found for key_id in key_ids)
