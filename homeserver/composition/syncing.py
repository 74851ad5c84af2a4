"""What clients have missed: /sync, sliding sync, and the ways that came before them."""

from __future__ import annotations

from homeserver.composition.accounts import Accounts
from homeserver.composition.encryption import Encryption
from homeserver.composition.engine import Engine
from homeserver.composition.peers import Peers
from homeserver.composition.rooms import People, RoomActions, RoomHistory
from homeserver.sync.lazy_members import LazyMembers
from homeserver.sync.notifications import Notifications
from homeserver.sync.old_events import OldEvents
from homeserver.sync.outside_section import OutsideSection
from homeserver.sync.room_state import RoomStates
from homeserver.sync.rooms_section import RoomsSection
from homeserver.sync.seen_timelines import SeenTimelines
from homeserver.sync.service import Sync
from homeserver.sync.sliding.connections import Connections
from homeserver.sync.sliding.device_extensions import DeviceExtensions
from homeserver.sync.sliding.extensions import RoomExtensions
from homeserver.sync.sliding.room_lists import RoomLists
from homeserver.sync.sliding.room_results import RoomResults
from homeserver.sync.sliding.room_state import RequiredStates
from homeserver.sync.sliding.service import SlidingSync
from homeserver.sync.timelines import Timelines
from homeserver.sync.unread import UnreadCounts


class Syncing:
    """Reads what the others have written."""

    def __init__(
        self,
        engine: Engine,
        encryption: Encryption,
        accounts: Accounts,
        peers: Peers,
        people: People,
        actions: RoomActions,
        past: RoomHistory,
    ) -> None:
        pool, log, metrics = engine.pool, engine.log, engine.metrics
        rooms, user_rooms, ephemeral = engine.rooms, engine.user_rooms, engine.ephemeral
        account_data, presence, limits = accounts.account_data, people.presence, engine.config.limits
        unread = UnreadCounts(pool, log, accounts.push_rules)
        lazy_members = LazyMembers()
        timelines = Timelines(pool, log)
        room_states = RoomStates(pool, log, lazy_members, engine.snapshots, past.memberships)
        seen_timelines = SeenTimelines(timelines, past.visibility, room_states)
        section = RoomsSection(log, room_states, unread, seen_timelines, past.client_events)
        self.sync = Sync(
            pool=pool,
            log=log,
            rooms=rooms,
            user_rooms=user_rooms,
            timelines=timelines,
            section=section,
            outside=OutsideSection(peers.outside, account_data),
            unread=unread,
            lazy_members=lazy_members,
            account_data=account_data,
            ephemeral=ephemeral,
            presence=presence,
            device_news=encryption.news,
            timeout_max_ms=limits.sync_timeout_max_ms,
        )

        half = limits.sliding_sync_cache_bytes // 2
        lists = RoomLists(pool, log, rooms, user_rooms, account_data, bytes_max=half)
        self.sliding_connections = connections = Connections(pool, bytes_max=half)
        metrics.watch_cache("sliding_lists", lambda: lists.size_bytes)
        metrics.watch_cache("sliding_connections", lambda: connections.size_bytes)
        sliding_members = LazyMembers()
        self.sliding_sync = SlidingSync(
            pool=pool,
            log=log,
            connections=connections,
            room_lists=lists,
            results=RoomResults(
                pool=pool,
                rooms=rooms,
                user_rooms=user_rooms,
                timelines=timelines,
                section=section,
                states=RequiredStates(log, room_states, sliding_members),
                unread=unread,
                visibility=past.visibility,
            ),
            extensions=RoomExtensions(pool=pool, log=log, account_data=account_data, ephemeral=ephemeral),
            thread_subscriptions=past.thread_subscriptions,
            device_extensions=DeviceExtensions(encryption.news, user_rooms),
            lazy_members=sliding_members,
            account_data=account_data,
            ephemeral=ephemeral,
            presence=presence,
            timeout_max_ms=limits.sync_timeout_max_ms,
        )

        self.old_events = OldEvents(
            pool=pool,
            log=log,
            rooms=rooms,
            user_rooms=user_rooms,
            timelines=timelines,
            visibility=past.visibility,
            client_events=past.client_events,
            snapshots=engine.snapshots,
            memberships=past.memberships,
            account_data=account_data,
            publication=actions.publication,
            ephemeral=ephemeral,
            presence=presence,
            outside=peers.outside,
            timeout_max_ms=limits.sync_timeout_max_ms,
        )
        self.notifications = Notifications(pool, log, rooms, user_rooms, accounts.push_rules, account_data)
