"""The composition root: makes a node, runs it, and stops it in order. Its services are in `composition/`."""

from __future__ import annotations

import asyncio
import gc
import signal
from pathlib import Path

import structlog

from federation.keys import SigningKey
from homeserver.api.listeners import Listeners
from homeserver.commit_log.committer import read_position
from homeserver.composition.engine import Engine
from homeserver.composition.node_services import NodeServices
from homeserver.config.secrets import load_signing_key
from homeserver.config.sections import Config
from homeserver.storage.database import Database, open_database

log = structlog.get_logger()


async def serve(config: Config) -> None:
    """Run a node until SIGTERM or SIGINT.

    Raises ConfigError, DatabaseError, EmbeddedPostgresError, MigrationError, and OSError where an
    address to listen on cannot be had.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    key = load_signing_key(Path(config.server.signing_key_file))
    database = await open_database(config.database, Path(config.server.data_dir))
    try:
        node = await Node.build(config, key, database)
        try:
            gc.collect()
            gc.freeze()  # what a node is made of stays: no collection of garbage has to look through it
            await node.start()
            await stop.wait()
            log.info("stopping")
        finally:
            await node.stop()
    finally:
        await database.close()
    log.info("stopped")


class Node:
    """A node on an open database."""

    def __init__(self, config: Config, key: SigningKey, database: Database, position: int) -> None:
        self._config = config
        self._database = database
        self.engine = Engine(config, key, database, position)
        self._parts = NodeServices(self.engine)
        self.services = self._parts.api
        self._listeners = Listeners(self.services, config.limits, self.engine.metrics.observe_request)

    @classmethod
    async def build(cls, config: Config, key: SigningKey, database: Database) -> Node:
        """A node that goes on where the log ends."""
        return cls(config, key, database, await read_position(database.pool))

    async def start(self) -> None:
        """Start background tasks, then listen. Raises OSError."""
        engine, parts = self.engine, self._parts
        accounts, people = parts.actions.account_management, parts.people
        await parts.peers.sender.load()  # before anything can be added to what waits
        start = engine.supervisor.start
        if self._database.embedded is not None:
            start("embedded database", self._database.embedded.keep_running)
        start("committer", engine.committer.run)
        start("event loop watch", engine.metrics.watch_event_loop)
        start("last seen", parts.accounts.last_seen.run)
        start("departures", accounts.resume_departures)
        start("delayed events", parts.actions.delayed_events.run)
        start("presence", people.presence.run)
        start("partial joins", parts.peers.partial_joins.resume)
        start("device lists", parts.encryption.lists.run)
        start("servers met by joins", parts.encryption.lists.tell_joins)
        start("remote device lists", parts.remote_keys.lists.run)
        start("to-device queues", parts.encryption.queues.run)
        start("key housekeeping", parts.encryption.housekeeping.run)
        start("profile propagation", people.profile_propagation.run)
        start("departures of guests", people.guest_departures.run)
        start("profiles of others", people.other_profiles.run)
        start("sliding sync connections", parts.syncing.sliding_connections.clean)
        start("waiting events", parts.remote.waiting_events.run)
        start("outbox", parts.peers.outbox_keeping.run)
        await accounts.read_erased()
        await self._listeners.start(self._config.listeners)

    async def stop(self) -> None:
        """Answer what is in flight, write what was taken, then end everything else."""
        engine, parts = self.engine, self._parts
        engine.notifier.close()
        await self._listeners.stop()
        parts.peers.sender.close()
        await engine.committer.drain()
        await engine.supervisor.stop()
        await engine.client.close()
        await parts.peers.outbox_keeping.store()
        parts.accounts.passwords.close()
        await parts.accounts.last_seen.flush()
        await parts.encryption.queues.flush()
