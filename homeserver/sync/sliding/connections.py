"""Connections of sliding sync: found by their tokens, kept in memory, stored, and forgotten when unused."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

import orjson

from homeserver.clock import Clock, now_ms
from homeserver.requester import Requester
from homeserver.storage import sliding_sync as sql
from homeserver.storage.connection import Pool
from homeserver.sync.sliding.connection import Connection, Pos, UnknownPos, new_generation
from homeserver.sync.sliding.connection_state import Delta

CONNECTIONS_MAX = 16  # of a device; the one unused for longest makes room
DELTAS_BYTES_MIN = 4096  # before the state is written as a whole again
SELECTIONS_MAX = 500  # likewise
DAY_MS = 86_400_000
UNUSED_DAYS_MAX = 30
CLEANING_INTERVAL_S = 3600.0
CLEANED_AT_ONCE = 1000


class Connections:
    """All connections; those of active clients in memory, as many as fit in `bytes_max`."""

    def __init__(self, pool: Pool, *, bytes_max: int, clock: Clock = now_ms) -> None:
        self._pool = pool
        self._bytes_max = bytes_max
        self._clock = clock
        self._connections: OrderedDict[tuple[int, str], Connection] = OrderedDict()
        self._sizes: dict[tuple[int, str], int] = {}
        self.size_bytes = 0

    def begin(self, requester: Requester, conn_id: str) -> Connection:
        """A new connection, in place of one of the same name once it is saved."""
        before = self._connections.get((requester.device_nid, conn_id))
        if before is not None:
            before.take_turn()
        return Connection(requester.device_nid, conn_id)

    async def resume(self, requester: Requester, conn_id: str, pos: Pos) -> Connection:
        """The connection that gave a token. Raises UnknownPos."""
        key = requester.device_nid, conn_id
        connection = self._connections.get(key)
        if connection is not None and connection.number == pos.number and connection.accept(pos.generation):
            self._connections.move_to_end(key)
            return connection
        connection = await self._read(key, pos)
        known = self._connections.get(key)
        if known is not None:
            known.take_turn()
        self._keep(connection)
        if connection.used_ms < self._clock() - DAY_MS:
            connection.used_ms = self._clock()
            await sql.touch_connection(self._pool, connection.number, connection.used_ms)
        return connection

    async def save(self, connection: Connection, delta: Delta) -> int:
        """Store the state that an answer brings; the generation that names it. Raises UnknownPos if the
        connection is gone."""
        connection.used_ms = self._clock()
        if not connection.is_stored:
            await self._create(connection, delta)
            return connection.generation
        generation = new_generation()
        # What was offered before is no longer: its answer was lost, or its client does not want it.
        places = [number for number, _ in connection.chain]
        kept = places.index(connection.generation) + 1 if connection.generation in places else 0
        chain = [*connection.chain[:kept], (generation, delta.encode())]
        size_bytes = sum(len(encoded) for _, encoded in chain)
        if size_bytes > max(DELTAS_BYTES_MIN, connection.whole_bytes // 2) or (
            len(connection.selections) > SELECTIONS_MAX
        ):
            stored = await self._write_whole(connection, delta, chain[-1])
        else:
            stored = await sql.write_deltas(
                self._pool, connection.number, _encode_chain(chain), connection.used_ms
            )
            connection.chain = chain
        if not stored:
            self._forget(connection)
            raise UnknownPos
        connection.offered = generation, delta
        self._count(connection)
        return generation

    async def clean(self) -> None:
        """Delete what nobody has used for long; for the supervisor."""
        while True:
            before_ms = self._clock() - UNUSED_DAYS_MAX * DAY_MS
            count = await sql.delete_unused_connections(self._pool, before_ms, CLEANED_AT_ONCE)
            if count < CLEANED_AT_ONCE:
                await asyncio.sleep(CLEANING_INTERVAL_S)

    async def _create(self, connection: Connection, delta: Delta) -> None:
        connection.apply(connection.generation, delta)
        whole = connection.whole().encode()
        await sql.create_connection(
            self._pool,
            connection.number,
            connection.device_nid,
            connection.conn_id,
            connection.used_ms,
            connection.generation,
            whole,
            most=CONNECTIONS_MAX,
        )
        connection.whole_bytes = len(whole)
        connection.is_stored = True
        self._keep(connection)

    async def _write_whole(self, connection: Connection, delta: Delta, last: tuple[int, bytes]) -> bool:
        whole = connection.whole(delta)
        encoded = whole.encode()
        stored = await sql.write_whole(
            self._pool,
            connection.number,
            _encode_chain([last]),
            connection.used_ms,
            connection.generation,
            encoded,
        )
        connection.keep_selections(dict(whole.selections))
        connection.whole_bytes = len(encoded)
        connection.chain = [last]
        return stored

    async def _read(self, key: tuple[int, str], pos: Pos) -> Connection:
        row = await sql.fetch_connection(self._pool, *key)
        if row is None or row.number != pos.number:
            raise UnknownPos
        connection = Connection(*key, number=row.number, generation=row.whole_generation)
        connection.is_stored = True
        connection.used_ms = row.used_ms
        connection.whole_bytes = len(row.whole)
        connection.apply(row.whole_generation, Delta.of_json(orjson.loads(row.whole)))
        connection.chain = [
            (generation, orjson.dumps(delta)) for generation, delta in orjson.loads(row.deltas)
        ]
        for generation, encoded in connection.chain:
            if connection.generation == pos.generation:
                break
            connection.apply(generation, Delta.of_json(orjson.loads(encoded)))
        if connection.generation != pos.generation:
            raise UnknownPos
        return connection

    def _keep(self, connection: Connection) -> None:
        key = connection.device_nid, connection.conn_id
        self._connections[key] = connection
        self._connections.move_to_end(key)
        self._count(connection)

    def _count(self, connection: Connection) -> None:
        key = connection.device_nid, connection.conn_id
        if self._connections.get(key) is not connection:
            return
        size_bytes = connection.size_bytes
        self.size_bytes += size_bytes - self._sizes.get(key, 0)
        self._sizes[key] = size_bytes
        while self.size_bytes > self._bytes_max and len(self._connections) > 1:
            self._forget(next(iter(self._connections.values())))

    def _forget(self, connection: Connection) -> None:
        key = connection.device_nid, connection.conn_id
        if self._connections.get(key) is connection:
            del self._connections[key]
            self.size_bytes -= self._sizes.pop(key)


def _encode_chain(chain: list[tuple[int, bytes]]) -> bytes:
    return b"[" + b",".join(b"[%d,%b]" % (generation, encoded) for generation, encoded in chain) + b"]"
