"""How other servers are reached: what goes out to them, and what they are asked."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from homeserver.composition.accounts import Accounts
from homeserver.composition.engine import Engine
from homeserver.config.secrets import load_old_keys
from homeserver.federating.asking import Asking
from homeserver.federating.backfilling import Backfilling
from homeserver.federating.destination import Activity
from homeserver.federating.event_fetching import EventFetching
from homeserver.federating.gap_filling import GapFilling
from homeserver.federating.handshakes import Handshakes
from homeserver.federating.inviting import FederatedInviting
from homeserver.federating.joining import FederatedJoining
from homeserver.federating.key_fetching import KeyFetching
from homeserver.federating.key_ring import KeyRing
from homeserver.federating.leaving import FederatedLeaving
from homeserver.federating.outbox_keeping import OutboxKeeping
from homeserver.federating.outside_hierarchy import OutsideHierarchy
from homeserver.federating.own_keys import OwnKeys
from homeserver.federating.partial_joins import PartialJoins
from homeserver.federating.room_access import RoomAccess
from homeserver.federating.sender import Sender, SenderMetrics
from homeserver.federating.verifying import EventVerifier
from homeserver.rooms.outside_rooms import OutsideRooms
from homeserver.rooms.partial_rooms import PartialRooms


class Peers:
    """The services of rooms stand on it: their users enter and leave rooms of other servers."""

    def __init__(self, engine: Engine, accounts: Accounts) -> None:
        pool, log, client, metrics = engine.pool, engine.log, engine.client, engine.metrics
        rooms, receiving, past_events = engine.rooms, engine.receiving, engine.past_events
        server_name, key, config = engine.server_name, engine.key, engine.config
        eighth = config.limits.account_cache_bytes // 8

        self.sender = sender = Sender(
            pool,
            log,
            client,
            engine.supervisor,
            server_name,
            SenderMetrics(metrics.count_transaction, metrics.count_events_not_taken),
        )
        self.outbox_keeping = OutboxKeeping(pool, sender)
        metrics.watch_queue("federation", lambda: sender.waiting_count)
        metrics.watch_oldest_waiting(lambda: sender.oldest_waiting_s)
        for activity in Activity:
            metrics.watch_destinations(activity.value, partial(sender.count, activity))

        self.own_keys = OwnKeys(server_name, key, load_old_keys(Path(config.server.old_keys_file)))
        self.key_ring = key_ring = KeyRing(
            pool, self.own_keys, KeyFetching(client), config.federation.notaries, cache_bytes=eighth
        )
        metrics.watch_cache("server_keys", lambda: key_ring.size_bytes)
        self.verifier = EventVerifier(key_ring)
        self.access = RoomAccess(rooms, server_name)
        fetching = EventFetching(client, self.verifier, metrics.count_federation_event_refusal)
        self.filling = GapFilling(server_name, pool, fetching, receiving, past_events, self.access)
        self.backfilling = Backfilling(pool, rooms, fetching, self.filling)

        handshakes = Handshakes(client, server_name, key)
        self.outside = OutsideRooms(pool, log, rooms, receiving)
        partial_rooms = PartialRooms(pool, rooms, receiving, past_events, engine.branches, engine.snapshots)
        self.partial_joins = PartialJoins(
            pool, client, self.verifier, rooms, partial_rooms, engine.supervisor
        )
        self.joining = FederatedJoining(
            client,
            handshakes,
            self.verifier,
            rooms,
            receiving,
            past_events,
            self.outside,
            self.partial_joins,
        )
        self.leaving = FederatedLeaving(client, handshakes, self.outside)
        self.inviting = FederatedInviting(pool, client, rooms, receiving, engine.policy_servers, server_name)

        self.asking = asking = Asking(client, accounts.rate_limits, cache_bytes=eighth)
        metrics.watch_cache("remote_answers", lambda: asking.size_bytes)
        self.outside_hierarchy = OutsideHierarchy(server_name, engine.servers.permits, asking)
