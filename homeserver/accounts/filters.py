"""Filters that clients have uploaded. Source: Client-Server API, "Filtering"."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from hashlib import sha256
from typing import Any

import orjson

from federation.event import JsonObject
from homeserver.errors import InvalidParam, LimitExceeded, NotFound, TooLarge
from homeserver.filters import NO_FILTER, SyncFilter, compile_filter
from homeserver.loading_cache import LoadingCache
from homeserver.requester import Requester
from homeserver.storage import filters as sql
from homeserver.storage.connection import Pool

FILTER_BYTES_MAX = 64 * 1024
FILTERS_MAX = 1000  # of one user
ATTEMPTS = 3  # of storing a filter while others are being stored
NUMBER_MAX = 2**31 - 1
CONFLICT_RETRY_MS = 500

Key = tuple[int, int]


class Filters:
    """Filters by user and id; those in use are in memory, compiled. A filter never changes."""

    def __init__(self, pool: Pool, *, cache_bytes: int) -> None:
        self._pool = pool
        self._cache: LoadingCache[Key, tuple[SyncFilter, int]] = LoadingCache(
            self._load, lambda _, entry: entry[1], cache_bytes
        )
        self._inline: LoadingCache[str, tuple[SyncFilter, int]] = LoadingCache(
            self._compile, lambda _, entry: entry[1], cache_bytes
        )

    async def define(self, requester: Requester, definition: JsonObject) -> str:
        """`defineFilter`: the id, the same for the same filter. Raises BadJson, InvalidParam, TooLarge."""
        compile_filter(definition)
        encoded = orjson.dumps(definition, option=orjson.OPT_SORT_KEYS)
        if len(encoded) > FILTER_BYTES_MAX:
            raise TooLarge(f"A filter may have {FILTER_BYTES_MAX} bytes at most")
        digest = sha256(encoded).digest()
        for _ in range(ATTEMPTS):
            number = await sql.find_filter(self._pool, requester.user_nid, digest)
            if number is None:
                number = await sql.insert_filter(
                    self._pool, requester.user_nid, digest, encoded, most=FILTERS_MAX
                )
            if number is not None:
                return str(number)
            if await sql.fetch_filter(self._pool, requester.user_nid, FILTERS_MAX - 1) is not None:
                raise InvalidParam(f"You have {FILTERS_MAX} filters, which is the most: use those")
        raise LimitExceeded(CONFLICT_RETRY_MS)

    async def definition(self, requester: Requester, filter_id: str) -> bytes:
        """`getFilter`: the definition, JSON. Raises NotFound."""
        number = _number(filter_id)
        definition = await sql.fetch_filter(self._pool, requester.user_nid, number)
        if definition is None:
            raise NotFound("There is no such filter: upload it again")
        return definition

    async def resolve(self, user_nid: int, given: str | None) -> SyncFilter:
        """The filter that a sync names, by id or as inline JSON. Raises BadJson, InvalidParam."""
        if not given:
            return NO_FILTER
        if given.startswith("{"):
            return (await self._inline.load(given))[0]
        try:
            return (await self._cache.load((user_nid, _number(given))))[0]
        except (KeyError, NotFound) as cause:
            raise InvalidParam("There is no such filter: upload it again") from cause

    async def _load(self, keys: Collection[Key]) -> Mapping[Key, tuple[SyncFilter, int]]:
        found: dict[Key, tuple[SyncFilter, int]] = {}
        for user_nid, number in keys:
            definition = await sql.fetch_filter(self._pool, user_nid, number)
            if definition is not None:
                found[user_nid, number] = _compiled(orjson.loads(definition), len(definition))
        return found

    async def _compile(self, keys: Collection[str]) -> Mapping[str, tuple[SyncFilter, int]]:
        return {given: _compiled(_parse(given), len(given)) for given in keys}


def _compiled(definition: Any, length: int) -> tuple[SyncFilter, int]:
    # Measured: a compiled filter takes some nine times its JSON.
    return compile_filter(definition), 1000 + 10 * length


def _parse(given: str) -> Any:
    if len(given) > FILTER_BYTES_MAX:
        raise TooLarge(f"A filter may have {FILTER_BYTES_MAX} bytes at most")
    try:
        return orjson.loads(given)
    except orjson.JSONDecodeError as cause:
        raise InvalidParam("The filter is neither the id of one nor valid JSON") from cause


def _number(filter_id: str) -> int:
    if not (filter_id.isascii() and filter_id.isdigit() and len(filter_id) <= 10):
        raise NotFound("There is no such filter: upload it again")
    return min(int(filter_id), NUMBER_MAX)
