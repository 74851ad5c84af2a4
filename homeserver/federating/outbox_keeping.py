"""Keeps the outbox: stores how far servers are, deletes what all have, bounds what waits for absent ones."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from homeserver.clock import Clock, now_ms
from homeserver.federating.sender import Sender
from homeserver.storage import outbox as sql
from homeserver.storage.connection import Pool

log = structlog.get_logger()

STORE_S = 1.0  # after a crash, what was answered in this time is sent again, and known there
LOOK_S = 5.0  # for administrators' wishes
DELETE_S = 10.0
DELETED_AT_ONCE = 5_000
SHORTEN_S = 300.0

# What waits for a server that does not answer. It fetches what it misses of a room, given its newest events.
EVENTS_MAX = 1_000  # of one room; of more, and of older ones, only the newest are kept
EVENTS_KEPT = 50
AGE_MAX_MS = 7 * 24 * 3600 * 1000
# Updates of devices and of users' keys. However many there are, the last of each is never dropped: who misses
# that encrypts for the wrong devices. Who misses one before sees it, and asks for the whole list.
REPLACEABLE_MAX = 1_000
# Messages to devices are keys of what is written meanwhile, which nobody can be asked for.
EDU_BYTES_MAX = 256 * 1024 * 1024  # some 300,000 messages to one server; beyond that the oldest are lost


@dataclass(frozen=True, slots=True)
class OutboxKeeping:
    """The background task beside the sender."""

    pool: Pool
    sender: Sender
    clock: Clock = now_ms

    async def run(self) -> None:
        """For ever; for the supervisor."""
        loop = asyncio.get_running_loop()
        look_at = delete_at = shorten_at = loop.time()
        delivered = True  # what the process before did not come to
        while True:
            await asyncio.sleep(STORE_S)
            delivered = await self.store() or delivered
            now = loop.time()
            backing_off = self.sender.backing_off
            if backing_off and now >= look_at:
                look_at = now + LOOK_S
                self.sender.retry(await sql.to_retry(self.pool))
            if backing_off and now >= shorten_at:
                shorten_at = now + SHORTEN_S
                delivered = await self.shorten(backing_off) or delivered
            if delivered and now >= delete_at:
                delete_at = now + DELETE_S
                delivered = False
                await self.delete()

    async def store(self) -> bool:
        """Store how far servers are; whether anything has changed."""
        progress = self.sender.take_unstored()
        if not progress:
            return False
        try:
            await sql.store_progress(self.pool, progress)
        except BaseException:
            self.sender.not_stored(progress)
            raise
        return True

    async def delete(self) -> None:
        """Delete what nobody waits for."""
        while await sql.delete_delivered(self.pool, DELETED_AT_ONCE) == DELETED_AT_ONCE:
            pass

    async def shorten(self, server_names: list[str]) -> bool:
        """Let absent servers miss what is too much; whether there was any."""
        events = await sql.shorten_events(
            self.pool,
            server_names,
            keep=EVENTS_KEPT,
            events_max=EVENTS_MAX,
            older_than_ms=self.clock() - AGE_MAX_MS,
        )
        lost, replaced = await sql.shorten_edus(
            self.pool, server_names, replaceable_max=REPLACEABLE_MAX, bytes_max=EDU_BYTES_MAX
        )
        if events:
            log.warning("servers that do not answer will have to fetch what they missed", rows=events)
        if lost:
            log.warning("messages to devices of servers that do not answer are lost", rows=lost)
        return events + lost + replaced > 0
