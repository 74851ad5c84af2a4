"""The commit log, the rooms in memory, and what stands on them alone."""

from __future__ import annotations

from pathlib import Path

from federation.keys import SigningKey
from homeserver.commit_log.committer import Committer, CommitterMetrics
from homeserver.commit_log.ephemeral import Ephemeral
from homeserver.commit_log.live_tail import LiveTail
from homeserver.commit_log.log import CommitLog
from homeserver.commit_log.notifier import Notifier
from homeserver.config.secrets import load_policy_key
from homeserver.config.sections import Config
from homeserver.federating.identity_servers import AskedIdentityServers
from homeserver.federating.outbound import make_clients
from homeserver.federating.own_policy import OwnPolicy
from homeserver.federating.policy_servers import PolicyServers
from homeserver.federating.servers import Servers
from homeserver.metrics import Metrics
from homeserver.rooms.auth_chains import AuthChains
from homeserver.rooms.branch_states import BranchStates
from homeserver.rooms.loading import RoomCache
from homeserver.rooms.past_events import PastEvents
from homeserver.rooms.receiving import Receiving
from homeserver.rooms.rooms import Rooms
from homeserver.rooms.snapshot_reader import SnapshotReader
from homeserver.rooms.user_rooms import UserRooms
from homeserver.storage.database import Database
from homeserver.supervisor import Supervisor


class Engine:
    """Takes events and other changes in. Asks other servers itself only where a room has a policy server."""

    def __init__(self, config: Config, key: SigningKey, database: Database, position: int) -> None:
        self.config = config
        self.key = key
        self.server_name = server_name = config.server.server_name
        self.pool = pool = database.pool
        self.metrics = metrics = Metrics()
        self.supervisor = Supervisor(metrics.count_task_restart)
        limits = config.limits

        self.committer = Committer(
            database,
            position,
            CommitterMetrics(
                metrics.observe_batch, metrics.queue_setter("commit"), metrics.count_commit_failure
            ),
            queue_max=limits.commit_queue_max,
        )
        tail = LiveTail(position, limits.tail_bytes)
        self.notifier = Notifier()
        self.ephemeral = Ephemeral(self.notifier.wake)
        self.log = CommitLog(self.committer, tail, self.notifier)
        metrics.watch_cache("tail", lambda: tail.size_bytes)
        metrics.watch_queue("waiting_users", lambda: self.notifier.waiting_count)

        self.servers = Servers(config.federation, metrics.count_federation_refusal)
        self.client, identity_client = make_clients(
            server_name, key, config.federation, self.servers, metrics
        )
        self.identity_servers = AskedIdentityServers(identity_client, config.federation.identity_servers)
        self.own_policy = None
        if config.policy_server.enabled:
            policy_key = load_policy_key(Path(config.policy_server.key_file))
            self.own_policy = OwnPolicy(server_name, policy_key, config.policy_server)
        self.policy_servers = PolicyServers(
            server_name, self.client, self.own_policy, metrics.count_policy_check
        )

        self.room_cache = cache = RoomCache(database, server_name, limits.room_cache_bytes)
        metrics.watch_cache("rooms", lambda: cache.size_bytes)
        self.rooms = Rooms(database, self.log, cache, server_name, key, self.policy_servers)
        self.user_rooms = UserRooms(database)
        self.log.subscribe(self.user_rooms.follow)  # the first: other subscribers read it
        self.snapshots = SnapshotReader(pool)
        self.chains = AuthChains(pool)
        self.branches = BranchStates(pool, self.snapshots, self.chains)
        self.receiving = Receiving(pool, self.rooms, self.branches, self.policy_servers)
        self.past_events = PastEvents(pool, self.rooms, self.branches, self.receiving)
