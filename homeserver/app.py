"""The composition root: makes every service of a node, runs it, and stops it in order."""

from __future__ import annotations

import asyncio
import gc
import signal
from functools import partial
from pathlib import Path

import structlog

from federation.keys import SigningKey
from federation.room_versions import room_version
from homeserver.accounts.account_data import AccountData
from homeserver.accounts.authenticator import Authenticator
from homeserver.accounts.devices import Devices
from homeserver.accounts.discovery import Discovery
from homeserver.accounts.filters import Filters
from homeserver.accounts.last_seen import LastSeen
from homeserver.accounts.login import Login
from homeserver.accounts.management import AccountManagement
from homeserver.accounts.moderation import Moderation as AccountModeration
from homeserver.accounts.openid import OpenID
from homeserver.accounts.passwords import Passwords
from homeserver.accounts.profiles import Profiles
from homeserver.accounts.push_rules import PushRules
from homeserver.accounts.rate_limits import RateLimits
from homeserver.accounts.registration import Registration
from homeserver.accounts.sessions import Sessions
from homeserver.accounts.shared_secret import SharedSecretRegistration
from homeserver.accounts.tags import Tags
from homeserver.accounts.turn_servers import TurnServers
from homeserver.accounts.user_interactive import (
    DUMMY,
    PASSWORD,
    REGISTRATION_TOKEN,
    UserInteractive,
    dummy_stage,
)
from homeserver.api.listeners import Listeners
from homeserver.api.services import Services
from homeserver.commit_log.committer import Committer, CommitterMetrics, read_position
from homeserver.commit_log.ephemeral import Ephemeral
from homeserver.commit_log.live_tail import LiveTail
from homeserver.commit_log.log import CommitLog
from homeserver.commit_log.notifier import Notifier
from homeserver.config.secrets import load_old_keys, load_policy_key, load_signing_key
from homeserver.config.sections import Config
from homeserver.encryption.cross_signing import CrossSigning
from homeserver.encryption.dehydrated_devices import DehydratedDevices
from homeserver.encryption.device_changes import DeviceChanges
from homeserver.encryption.device_lists import DeviceLists
from homeserver.encryption.device_news import DeviceNews
from homeserver.encryption.device_numbers import DeviceNumbers
from homeserver.encryption.housekeeping import Housekeeping
from homeserver.encryption.key_backup import KeyBackups
from homeserver.encryption.key_claims import LocalClaims
from homeserver.encryption.key_counts import KeyCounts
from homeserver.encryption.key_queries import LocalKeys
from homeserver.encryption.key_uploads import KeyUploads
from homeserver.encryption.signatures import Signatures
from homeserver.encryption.to_device import ToDeviceQueues
from homeserver.encryption.to_device_sending import ToDeviceSending
from homeserver.federating.alias_lookup import AliasLookup
from homeserver.federating.asking import Asking
from homeserver.federating.authenticator import FederationAuthenticator
from homeserver.federating.backfilling import Backfilling
from homeserver.federating.destination import Activity
from homeserver.federating.device_list_edus import DeviceListEdus
from homeserver.federating.directories import Directories
from homeserver.federating.edus import EduHandler, EduHandlers
from homeserver.federating.event_answers import EventAnswers
from homeserver.federating.event_fetching import EventFetching
from homeserver.federating.gap_filling import GapFilling
from homeserver.federating.handshakes import Handshakes
from homeserver.federating.hierarchy import FederationHierarchy
from homeserver.federating.inbox import Inbox
from homeserver.federating.invited import InvitedHere
from homeserver.federating.inviting import FederatedInviting
from homeserver.federating.join_answers import JoinAnswers
from homeserver.federating.joining import FederatedJoining
from homeserver.federating.key_fetching import KeyFetching
from homeserver.federating.key_ring import KeyRing
from homeserver.federating.leaving import FederatedLeaving
from homeserver.federating.livekit import LiveKit
from homeserver.federating.notary import Notary
from homeserver.federating.openid_proofs import OpenIDProofs
from homeserver.federating.outbound import make_client
from homeserver.federating.outbox_keeping import OutboxKeeping
from homeserver.federating.outside_hierarchy import OutsideHierarchy
from homeserver.federating.own_keys import OwnKeys
from homeserver.federating.own_policy import OwnPolicy
from homeserver.federating.partial_joins import PartialJoins
from homeserver.federating.policy_answers import PolicyAnswers
from homeserver.federating.policy_servers import PolicyServers
from homeserver.federating.presence_edus import PresenceEdus
from homeserver.federating.queries import FederationQueries
from homeserver.federating.receipt_edus import ReceiptEdus
from homeserver.federating.remote_lists import RemoteLists
from homeserver.federating.remote_profiles import AllProfiles
from homeserver.federating.resident import Resident
from homeserver.federating.room_access import RoomAccess
from homeserver.federating.room_state_answers import RoomStateAnswers
from homeserver.federating.sender import Sender, SenderMetrics
from homeserver.federating.server_visibility import ServerVisibility
from homeserver.federating.servers import Servers
from homeserver.federating.third_party_invites import ThirdPartyInvites
from homeserver.federating.to_device_edus import ToDeviceEdus
from homeserver.federating.typing_edus import TypingEdus
from homeserver.federating.user_key_answers import UserKeyAnswers
from homeserver.federating.user_keys import KeyClaims, KeyQueries
from homeserver.federating.verifying import EventVerifier
from homeserver.federating.waiting_events import WaitingEvents
from homeserver.metrics import Metrics
from homeserver.rooms.aliases import Aliases, Publication
from homeserver.rooms.auth_chains import AuthChains
from homeserver.rooms.branch_states import BranchStates
from homeserver.rooms.client_events import ClientEvents
from homeserver.rooms.creation import Creation
from homeserver.rooms.delayed_events import DelayedEvents
from homeserver.rooms.directory import Directory
from homeserver.rooms.guest_departures import GuestDepartures
from homeserver.rooms.history import History
from homeserver.rooms.history_pages import HistoryPages
from homeserver.rooms.inviting import Inviting
from homeserver.rooms.joining import Joining
from homeserver.rooms.leaving import Leaving
from homeserver.rooms.loading import RoomCache
from homeserver.rooms.membership_history import MembershipHistory
from homeserver.rooms.moderation import RoomModeration
from homeserver.rooms.other_profiles import OtherProfiles
from homeserver.rooms.outside_rooms import OutsideRooms
from homeserver.rooms.partial_rooms import PartialRooms
from homeserver.rooms.past_events import PastEvents
from homeserver.rooms.presence import Presence
from homeserver.rooms.profile_propagation import ProfilePropagation
from homeserver.rooms.public_rooms import PublicRooms
from homeserver.rooms.reading import Readers
from homeserver.rooms.receipts import Receipts
from homeserver.rooms.receiving import Receiving
from homeserver.rooms.relating_events import RelatingEvents
from homeserver.rooms.relations import Relations
from homeserver.rooms.reports import Reports
from homeserver.rooms.room_initial_sync import RoomInitialSync
from homeserver.rooms.room_summaries import RoomSummaries
from homeserver.rooms.rooms import Rooms
from homeserver.rooms.sending import Sending
from homeserver.rooms.server_notices import ServerNotices
from homeserver.rooms.snapshot_reader import SnapshotReader
from homeserver.rooms.space_hierarchy import SpaceHierarchy
from homeserver.rooms.state_reading import StateReading
from homeserver.rooms.state_setting import StateSetting
from homeserver.rooms.succession import Succession
from homeserver.rooms.thread_subscriptions import ThreadSubscriptions
from homeserver.rooms.threads import Threads
from homeserver.rooms.typing_notifications import TypingNotifications
from homeserver.rooms.upgrading import Upgrading
from homeserver.rooms.user_directory import UserDirectory
from homeserver.rooms.user_rooms import UserRooms
from homeserver.rooms.visibility import Visibility
from homeserver.storage.database import Database, open_database
from homeserver.storage.health import Health
from homeserver.supervisor import Supervisor
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

    def __init__(
        self,
        config: Config,
        key: SigningKey,
        database: Database,
        position: int,
    ) -> None:
        self.config = config
        self.metrics = Metrics()
        self.supervisor = Supervisor(self.metrics.count_task_restart)
        self._database = database
        metrics, limits, pool = self.metrics, config.limits, database.pool

        # The engine
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
        self.log = commit_log = CommitLog(self.committer, tail, self.notifier)
        server_name = config.server.server_name
        cache = RoomCache(database, server_name, limits.room_cache_bytes)
        federation = config.federation
        servers = Servers(federation, metrics.count_federation_refusal)
        self.federation_client = client = make_client(server_name, key, federation, servers, metrics)
        own_policy = None
        if config.policy_server.enabled:
            policy_key = load_policy_key(Path(config.policy_server.key_file))
            own_policy = OwnPolicy(server_name, policy_key, config.policy_server)
        policy_servers = PolicyServers(server_name, client, own_policy, metrics.count_policy_check)
        rooms = Rooms(database, commit_log, cache, server_name, key, policy_servers)
        user_rooms = UserRooms(database)
        commit_log.subscribe(user_rooms.follow)
        device_numbers = DeviceNumbers(pool, cache_bytes=limits.account_cache_bytes // 8)
        device_lists = DeviceLists(pool, commit_log, rooms, user_rooms, cache, device_numbers, server_name)
        metrics.watch_cache("device_numbers", lambda: device_numbers.size_bytes)
        self.device_lists = device_lists
        metrics.watch_cache("rooms", lambda: cache.size_bytes)
        metrics.watch_cache("tail", lambda: tail.size_bytes)
        metrics.watch_queue("waiting_users", lambda: self.notifier.waiting_count)

        # Other servers
        self.sender = sender = Sender(
            pool,
            commit_log,
            client,
            self.supervisor,
            server_name,
            SenderMetrics(metrics.count_transaction, metrics.count_events_not_taken),
        )
        self.outbox_keeping = OutboxKeeping(pool, sender)
        metrics.watch_queue("federation", lambda: sender.waiting_count)
        metrics.watch_oldest_waiting(lambda: sender.oldest_waiting_s)
        for activity in Activity:
            metrics.watch_destinations(activity.value, partial(sender.count, activity))
        openid = OpenID(pool, config.auth.openid_token_lifetime_ms)
        own_keys = OwnKeys(server_name, key, load_old_keys(Path(config.server.old_keys_file)))
        key_ring = KeyRing(
            pool,
            own_keys,
            KeyFetching(client),
            federation.notaries,
            cache_bytes=limits.account_cache_bytes // 8,
        )
        metrics.watch_cache("server_keys", lambda: key_ring.size_bytes)
        snapshots = SnapshotReader(pool)
        chains = AuthChains(pool)
        branches = BranchStates(pool, snapshots, chains)
        receiving = Receiving(pool, rooms, branches, policy_servers)
        past_events = PastEvents(pool, rooms, branches, receiving)
        access = RoomAccess(rooms, server_name)
        verifier = EventVerifier(key_ring)
        fetching = EventFetching(client, verifier, metrics.count_federation_event_refusal)
        filling = GapFilling(server_name, pool, fetching, receiving, past_events, access)
        backfilling = Backfilling(pool, rooms, fetching, filling, past_events)
        state_answers = RoomStateAnswers(pool, snapshots, chains)
        handshakes = Handshakes(client, server_name, key)
        outside = OutsideRooms(pool, commit_log, rooms, receiving)
        self.partial_joins = PartialJoins(
            pool,
            client,
            verifier,
            rooms,
            PartialRooms(pool, rooms, receiving, past_events, branches, snapshots),
            self.supervisor,
        )
        joining_elsewhere = FederatedJoining(
            client, handshakes, verifier, rooms, receiving, past_events, outside, self.partial_joins
        )
        leaving_elsewhere = FederatedLeaving(client, handshakes, outside)
        inviting_elsewhere = FederatedInviting(pool, client, rooms, receiving, policy_servers, server_name)

        # Accounts
        self.last_seen = LastSeen(pool)
        rate_limits = RateLimits(config.rate_limits)
        eighth = limits.account_cache_bytes // 8  # filters have two caches of this size
        authenticator = Authenticator(pool, self.last_seen, cache_bytes=limits.account_cache_bytes // 2)
        self.passwords = passwords = Passwords(config.auth)
        tell_of_devices = device_lists.tell_of_devices
        sessions = Sessions(pool, config.auth, authenticator, tell_of_devices)
        reserved = frozenset({config.server_notices.localpart})
        registration = Registration(
            pool, config.registration, server_name, reserved, passwords, sessions, rate_limits
        )
        login = Login(
            pool, server_name, passwords, rate_limits, sessions, config.auth.login_token_lifetime_ms
        )
        user_interactive = UserInteractive(
            {
                DUMMY: dummy_stage,
                PASSWORD: login.password_stage,
                REGISTRATION_TOKEN: registration.token_stage,
            },
            config.auth.ui_auth_session_lifetime_ms,
        )
        profiles = Profiles(pool)
        push_rules = PushRules(pool, commit_log, cache_bytes=eighth)
        account_data = AccountData(pool, commit_log, cache_bytes=eighth)
        tags = Tags(pool, commit_log, account_data)

        # Asking other servers
        asking = Asking(client, rate_limits, cache_bytes=eighth)
        outside_hierarchy = OutsideHierarchy(server_name, servers.permits, asking)
        metrics.watch_cache("remote_answers", lambda: asking.size_bytes)

        # Rooms
        ephemeral = Ephemeral(self.notifier.wake)
        self.presence = Presence(
            config.presence, ephemeral, self.notifier.wake, commit_log, pool, profiles, user_rooms, cache
        )
        self.other_profiles = OtherProfiles(pool, server_name, metrics.drop_counter("other_profiles"))
        commit_log.subscribe(self.other_profiles.follow)
        metrics.watch_queue("other_profiles", lambda: self.other_profiles.waiting_count)
        self.guest_departures = GuestDepartures(pool, rooms, metrics.drop_counter("guest_departures"))
        commit_log.subscribe(self.guest_departures.follow)
        metrics.watch_queue("guest_departures", lambda: self.guest_departures.waiting_count)
        self.profile_propagation = ProfilePropagation(pool, profiles, rooms, user_rooms)
        aliases = Aliases(pool, server_name)
        publication = Publication(pool)
        directory = Directory(pool, rooms, aliases, publication, config.rooms, server_name)
        alias_lookup = AliasLookup(server_name, aliases, directory, asking)
        public_rooms = PublicRooms(pool, config.rooms)
        succession = Succession(pool, commit_log, rooms, tags, push_rules, aliases, publication)
        joining = Joining(rooms, user_rooms, profiles, aliases, succession, joining_elsewhere)
        inviting = Inviting(account_data, server_name, rooms, profiles, inviting_elsewhere)
        notices_user_id = f"@{config.server_notices.localpart}:{server_name}"
        leaving = Leaving(rooms, user_rooms, notices_user_id, leaving_elsewhere)
        room_moderation = RoomModeration(rooms)
        sending = Sending(pool, rooms)
        state_setting = StateSetting(pool, rooms, alias_lookup, joining, inviting, leaving, room_moderation)
        self.delayed_events = DelayedEvents(pool, rooms, sending, state_setting, limits, self.supervisor)
        creation = Creation(rooms, profiles, inviting, aliases, publication, config.rooms, server_name)
        upgrading = Upgrading(rooms, receiving, profiles, aliases, publication, succession, server_name)
        membership_history = MembershipHistory(pool)
        erased_users: set[str] = set()
        visibility = Visibility(pool, membership_history, erased_users)
        relations = Relations(pool, visibility, membership_history)
        client_events = ClientEvents(pool, visibility, relations)
        readers = Readers(rooms, user_rooms, membership_history)
        pages = HistoryPages(pool, visibility)
        history = History(
            pool, rooms, readers, pages, visibility, snapshots, client_events, account_data, backfilling
        )
        state_reading = StateReading(pool, rooms, readers, pages, snapshots, client_events)

        # Encryption
        key_counts = KeyCounts(pool, commit_log, cache_bytes=eighth)
        self.to_device_queues = ToDeviceQueues(pool, commit_log)
        to_device = ToDeviceSending(pool, commit_log, device_numbers, server_name)
        device_news = DeviceNews(self.to_device_queues, device_lists, key_counts)
        local_claims = LocalClaims(pool, commit_log, device_numbers)
        cross_signing = CrossSigning(pool, commit_log, device_lists)
        local_keys = LocalKeys(pool, commit_log, cache_bytes=2 * eighth)
        metrics.watch_cache("device_keys", lambda: local_keys.size_bytes)
        self.key_housekeeping = Housekeeping(pool, local_claims, to_device, self.to_device_queues)

        # Sync
        unread = UnreadCounts(pool, commit_log, push_rules)
        lazy_members = LazyMembers()
        timelines = Timelines(pool, commit_log)
        room_states = RoomStates(pool, commit_log, lazy_members, snapshots, membership_history)
        seen_timelines = SeenTimelines(timelines, visibility, room_states)
        section = RoomsSection(commit_log, room_states, unread, seen_timelines, client_events)
        sync = Sync(
            pool=pool,
            log=commit_log,
            rooms=rooms,
            user_rooms=user_rooms,
            timelines=timelines,
            section=section,
            outside=OutsideSection(outside, account_data),
            unread=unread,
            lazy_members=lazy_members,
            account_data=account_data,
            ephemeral=ephemeral,
            presence=self.presence,
            device_news=device_news,
            timeout_max_ms=limits.sync_timeout_max_ms,
        )
        thread_subscriptions = ThreadSubscriptions(pool, commit_log, readers, history)
        half = limits.sliding_sync_cache_bytes // 2
        sliding_lists = RoomLists(pool, commit_log, rooms, user_rooms, account_data, bytes_max=half)
        self.sliding_connections = sliding_connections = Connections(pool, bytes_max=half)
        metrics.watch_cache("sliding_lists", lambda: sliding_lists.size_bytes)
        metrics.watch_cache("sliding_connections", lambda: sliding_connections.size_bytes)
        sliding_members = LazyMembers()
        sliding_sync = SlidingSync(
            pool=pool,
            log=commit_log,
            connections=sliding_connections,
            room_lists=sliding_lists,
            results=RoomResults(
                pool=pool,
                rooms=rooms,
                user_rooms=user_rooms,
                timelines=timelines,
                section=section,
                states=RequiredStates(commit_log, room_states, sliding_members),
                unread=unread,
                visibility=visibility,
            ),
            extensions=RoomExtensions(
                pool=pool, log=commit_log, account_data=account_data, ephemeral=ephemeral
            ),
            thread_subscriptions=thread_subscriptions,
            device_extensions=DeviceExtensions(commit_log, device_news, user_rooms),
            lazy_members=sliding_members,
            account_data=account_data,
            ephemeral=ephemeral,
            presence=self.presence,
            timeout_max_ms=limits.sync_timeout_max_ms,
        )

        # What other servers send, and ask
        self.waiting_events = waiting_events = WaitingEvents(
            pool, rooms, filling, self.supervisor, count_event=metrics.count_federation_event
        )
        metrics.watch_queue("waiting_events", lambda: waiting_events.count)
        self.remote_lists = remote_lists = RemoteLists(pool, commit_log, device_lists, client)
        key_queries = KeyQueries(server_name, pool, local_keys, client, remote_lists)
        device_list_edus = DeviceListEdus(pool, commit_log, device_lists, remote_lists)
        edu_handlers: dict[str, EduHandler] = {
            "m.typing": TypingEdus(rooms, ephemeral, sender).handle,
            "m.receipt": ReceiptEdus(pool, commit_log, rooms, sender).handle,
            "m.direct_to_device": ToDeviceEdus(commit_log, to_device).handle,
            "m.device_list_update": device_list_edus.handle_update,
            "m.signing_key_update": device_list_edus.handle_signing_keys,
            "m.presence": PresenceEdus(self.presence, sender, federation.presence_servers).handle,
        }
        resident = Resident(rooms, receiving, access, verifier, server_name, key)
        invited_here = InvitedHere(
            pool, rooms, receiving, outside, access, verifier, account_data, server_name, key
        )
        inbox = Inbox(
            rooms,
            access,
            verifier,
            receiving,
            waiting_events,
            joining_elsewhere,
            invited_here,
            EduHandlers(edu_handlers, access, metrics.count_federation_edu),
            count_event=metrics.count_federation_event,
            count_refusal=metrics.count_federation_event_refusal,
        )
        event_answers = EventAnswers(
            server_name,
            pool,
            rooms,
            access,
            state_answers,
            ServerVisibility(pool, erased_users),
        )

        self.services = Services(
            metrics=metrics,
            federation_authenticator=FederationAuthenticator(
                server_name,
                servers,
                key_ring,
                sender.heard_from,
                metrics.count_federation_refusal,
            ),
            own_keys=own_keys,
            notary=Notary(key_ring, own_keys, servers),
            federation_queries=FederationQueries(server_name, profiles, directory, rooms),
            federation_hierarchy=FederationHierarchy(pool, rooms),
            invited_here=invited_here,
            inbox=inbox,
            event_answers=event_answers,
            resident=resident,
            third_party_invites=ThirdPartyInvites(
                pool, client, rooms, resident, inviting_elsewhere, server_name
            ),
            join_answers=JoinAnswers(state_answers, server_name, federation.omit_members_from),
            authenticator=authenticator,
            rate_limits=rate_limits,
            registration=registration,
            shared_secret=SharedSecretRegistration(
                config.registration.shared_secret, registration, rate_limits
            ),
            login=login,
            sessions=sessions,
            user_interactive=user_interactive,
            account_management=AccountManagement(
                pool, passwords, authenticator, profiles, leaving.leave_all, tell_of_devices, erased_users
            ),
            devices=Devices(pool, authenticator, self.last_seen, tell_of_devices),
            moderation=AccountModeration(pool, server_name, authenticator, self.last_seen),
            openid=openid,
            discovery=Discovery(config),
            health=Health(pool),
            profiles=profiles,
            account_data=account_data,
            tags=tags,
            filters=Filters(pool, cache_bytes=eighth),
            push_rules=push_rules,
            turn_servers=TurnServers(config.voip),
            key_backups=KeyBackups(pool),
            key_uploads=KeyUploads(pool, commit_log, device_lists, key_counts),
            key_queries=key_queries,
            key_claims=KeyClaims(server_name, local_claims, client),
            device_changes=DeviceChanges(device_lists, user_rooms),
            cross_signing=cross_signing,
            signatures=Signatures(pool, commit_log, device_lists, cross_signing, key_queries.master_keys),
            user_key_answers=UserKeyAnswers(pool, server_name, local_keys, local_claims),
            to_device=to_device,
            dehydrated_devices=DehydratedDevices(pool, commit_log, device_lists, device_numbers),
            livekit=LiveKit(config.livekit, rooms),
            openid_proofs=OpenIDProofs(server_name, openid, client),
            receipts=Receipts(pool, commit_log, rooms),
            typing=TypingNotifications(rooms, ephemeral, commit_log),
            presence=self.presence,
            user_directory=UserDirectory(pool, config.user_directory),
            notifications=Notifications(pool, commit_log, rooms, user_rooms, push_rules, account_data),
            history=history,
            state_reading=state_reading,
            relating_events=RelatingEvents(
                pool, readers, pages, visibility, client_events, account_data, history
            ),
            threads=Threads(pool, readers, visibility, relations, client_events, account_data),
            thread_subscriptions=thread_subscriptions,
            room_initial_sync=RoomInitialSync(
                pool,
                commit_log,
                readers,
                pages,
                state_reading,
                client_events,
                account_data,
                publication,
                self.presence,
            ),
            reports=Reports(pool, rooms, history),
            sync=sync,
            sliding_sync=sliding_sync,
            old_events=OldEvents(
                pool=pool,
                log=commit_log,
                rooms=rooms,
                user_rooms=user_rooms,
                timelines=timelines,
                visibility=visibility,
                client_events=client_events,
                snapshots=snapshots,
                memberships=membership_history,
                account_data=account_data,
                publication=publication,
                ephemeral=ephemeral,
                presence=self.presence,
                outside=outside,
                timeout_max_ms=limits.sync_timeout_max_ms,
            ),
            rooms=rooms,
            creation=creation,
            upgrading=upgrading,
            joining=joining,
            inviting=inviting,
            leaving=leaving,
            room_moderation=room_moderation,
            sending=sending,
            state_setting=state_setting,
            delayed_events=self.delayed_events,
            aliases=aliases,
            publication=publication,
            directory=directory,
            public_rooms=public_rooms,
            directories=Directories(server_name, public_rooms, asking),
            alias_lookup=alias_lookup,
            policy_answers=PolicyAnswers(rooms, access, verifier, own_policy),
            all_profiles=AllProfiles(server_name, profiles, asking),
            room_summaries=RoomSummaries(pool, user_rooms, alias_lookup, outside_hierarchy),
            space_hierarchy=SpaceHierarchy(pool, rooms, user_rooms, outside_hierarchy),
            server_notices=ServerNotices(
                pool,
                rooms,
                profiles,
                tags,
                config.server_notices,
                server_name,
                room_version(config.rooms.default_version),
            ),
        )
        self._listeners = Listeners(self.services, limits, metrics.observe_request)

    @classmethod
    async def build(cls, config: Config, key: SigningKey, database: Database) -> Node:
        """A node that goes on where the log ends."""
        return cls(config, key, database, await read_position(database.pool))

    async def start(self) -> None:
        """Start background tasks, then listen. Raises OSError."""
        await self.sender.load()  # before anything can be added to what waits
        start = self.supervisor.start
        if self._database.embedded is not None:
            start("embedded database", self._database.embedded.keep_running)
        start("committer", self.committer.run)
        start("event loop watch", self.metrics.watch_event_loop)
        start("last seen", self.last_seen.run)
        start("departures", self.services.account_management.resume_departures)
        start("delayed events", self.delayed_events.run)
        start("presence", self.presence.run)
        start("partial joins", self.partial_joins.resume)
        start("device lists", self.device_lists.run)
        start("servers met by joins", self.device_lists.tell_joins)
        start("remote device lists", self.remote_lists.run)
        start("to-device queues", self.to_device_queues.run)
        start("key housekeeping", self.key_housekeeping.run)
        start("profile propagation", self.profile_propagation.run)
        start("departures of guests", self.guest_departures.run)
        start("profiles of others", self.other_profiles.run)
        start("sliding sync connections", self.sliding_connections.clean)
        start("waiting events", self.waiting_events.run)
        start("outbox", self.outbox_keeping.run)
        await self.services.account_management.read_erased()
        await self._listeners.start(self.config.listeners)

    async def stop(self) -> None:
        """Answer what is in flight, write what was taken, then end everything else."""
        self.notifier.close()
        await self._listeners.stop()
        self.sender.close()
        await self.committer.drain()
        await self.supervisor.stop()
        await self.federation_client.close()
        await self.outbox_keeping.store()
        self.passwords.close()
        await self.last_seen.flush()
        await self.to_device_queues.flush()
