"""What users do in rooms, and what they are shown of them."""

from __future__ import annotations

from federation.room_versions import room_version
from homeserver.accounts.management import AccountManagement
from homeserver.composition.accounts import Accounts
from homeserver.composition.encryption import Encryption
from homeserver.composition.engine import Engine
from homeserver.composition.peers import Peers
from homeserver.federating.alias_lookup import AliasLookup
from homeserver.federating.directories import Directories
from homeserver.federating.livekit import LiveKit
from homeserver.federating.remote_profiles import AllProfiles
from homeserver.rooms.aliases import Aliases, Publication
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
from homeserver.rooms.membership_history import MembershipHistory
from homeserver.rooms.moderation import RoomModeration
from homeserver.rooms.other_profiles import OtherProfiles
from homeserver.rooms.presence import Presence
from homeserver.rooms.profile_propagation import ProfilePropagation
from homeserver.rooms.public_rooms import PublicRooms
from homeserver.rooms.reading import Readers
from homeserver.rooms.receipts import Receipts
from homeserver.rooms.relating_events import RelatingEvents
from homeserver.rooms.relations import Relations
from homeserver.rooms.reports import Reports
from homeserver.rooms.room_initial_sync import RoomInitialSync
from homeserver.rooms.room_summaries import RoomSummaries
from homeserver.rooms.sending import Sending
from homeserver.rooms.server_notices import ServerNotices
from homeserver.rooms.space_hierarchy import SpaceHierarchy
from homeserver.rooms.state_reading import StateReading
from homeserver.rooms.state_setting import StateSetting
from homeserver.rooms.succession import Succession
from homeserver.rooms.third_party_invites import AddressProofs, InvitingByAddress
from homeserver.rooms.thread_subscriptions import ThreadSubscriptions
from homeserver.rooms.threads import Threads
from homeserver.rooms.typing_notifications import TypingNotifications
from homeserver.rooms.upgrading import Upgrading
from homeserver.rooms.user_directory import UserDirectory
from homeserver.rooms.visibility import Visibility


class People:
    """Who is in rooms: presence and names, and rooms that users leave when they go."""

    def __init__(self, engine: Engine, accounts: Accounts) -> None:
        pool, log, metrics, rooms = engine.pool, engine.log, engine.metrics, engine.rooms
        self.presence = Presence(
            engine.config.presence,
            engine.ephemeral,
            engine.notifier.wake,
            log,
            pool,
            accounts.profiles,
            engine.user_rooms,
            engine.room_cache,
        )
        self.other_profiles = others = OtherProfiles(
            pool, engine.server_name, metrics.drop_counter("other_profiles")
        )
        log.subscribe(others.follow)
        metrics.watch_queue("other_profiles", lambda: others.waiting_count)
        self.guest_departures = guests = GuestDepartures(
            pool, rooms, metrics.drop_counter("guest_departures")
        )
        log.subscribe(guests.follow)
        metrics.watch_queue("guest_departures", lambda: guests.waiting_count)
        self.profile_propagation = ProfilePropagation(pool, accounts.profiles, rooms, engine.user_rooms)
        self.receipts = Receipts(pool, log, rooms)
        self.typing = TypingNotifications(rooms, engine.ephemeral, log)
        self.directory = UserDirectory(pool, engine.config.user_directory)


class RoomActions:
    """Making rooms, entering, leaving and finding them, sending into them. Who gives up an account leaves
    all of them."""

    def __init__(self, engine: Engine, encryption: Encryption, accounts: Accounts, peers: Peers) -> None:
        pool, log, rooms, user_rooms = engine.pool, engine.log, engine.rooms, engine.user_rooms
        server_name, config, asking = engine.server_name, engine.config, peers.asking
        profiles = accounts.profiles
        self.aliases = Aliases(pool, server_name)
        self.publication = Publication(pool)
        self.directory = Directory(pool, rooms, self.aliases, self.publication, config.rooms, server_name)
        self.alias_lookup = AliasLookup(server_name, self.aliases, self.directory, asking)
        self.public_rooms = PublicRooms(pool, config.rooms)
        self.directories = Directories(server_name, self.public_rooms, asking)
        self.all_profiles = AllProfiles(server_name, profiles, asking)
        self.summaries = RoomSummaries(pool, user_rooms, self.alias_lookup, peers.outside_hierarchy)
        self.hierarchy = SpaceHierarchy(pool, rooms, user_rooms, peers.outside_hierarchy)

        succession = Succession(
            pool, log, rooms, accounts.tags, accounts.push_rules, self.aliases, self.publication
        )
        self.proofs = AddressProofs(engine.identity_servers)
        self.joining = Joining(
            rooms, user_rooms, profiles, self.aliases, succession, peers.joining, self.proofs
        )
        self.inviting = Inviting(accounts.account_data, server_name, rooms, profiles, peers.inviting)
        self.inviting_by_address = InvitingByAddress(rooms, profiles, self.inviting, engine.identity_servers)
        notices_user_id = f"@{config.server_notices.localpart}:{server_name}"
        self.leaving = Leaving(rooms, user_rooms, notices_user_id, peers.leaving)
        self.account_management = AccountManagement(
            pool,
            accounts.passwords,
            accounts.authenticator,
            profiles,
            self.leaving.leave_all,
            encryption.lists.tell_of_devices,
            accounts.erased_users,
        )
        self.moderation = RoomModeration(rooms)
        self.sending = Sending(pool, rooms)
        self.state_setting = StateSetting(
            pool, rooms, self.alias_lookup, self.joining, self.inviting, self.leaving, self.moderation
        )
        self.delayed_events = DelayedEvents(
            pool, rooms, self.sending, self.state_setting, config.limits, engine.supervisor
        )
        self.creation = Creation(
            rooms,
            profiles,
            self.inviting,
            self.inviting_by_address,
            self.aliases,
            self.publication,
            config.rooms,
            server_name,
        )
        self.upgrading = Upgrading(
            rooms,
            engine.receiving,
            profiles,
            self.aliases,
            self.publication,
            succession,
            server_name,
        )
        self.server_notices = ServerNotices(
            pool,
            rooms,
            profiles,
            accounts.tags,
            config.server_notices,
            server_name,
            room_version(config.rooms.default_version),
        )
        self.livekit = LiveKit(config.livekit, rooms)


class RoomHistory:
    """The past of rooms, as users may see it."""

    def __init__(
        self, engine: Engine, accounts: Accounts, peers: Peers, people: People, actions: RoomActions
    ) -> None:
        pool, log, rooms, user_rooms = engine.pool, engine.log, engine.rooms, engine.user_rooms
        snapshots, account_data = engine.snapshots, accounts.account_data
        self.memberships = MembershipHistory(pool)
        self.visibility = Visibility(pool, self.memberships, accounts.erased_users)
        relations = Relations(pool, self.visibility, self.memberships)
        self.client_events = events = ClientEvents(pool, self.visibility, relations)
        readers = Readers(rooms, user_rooms, self.memberships)
        pages = HistoryPages(pool, self.visibility)
        self.history = History(
            pool, rooms, readers, pages, self.visibility, snapshots, events, account_data, peers.backfilling
        )
        self.state_reading = StateReading(pool, rooms, readers, pages, snapshots, events)
        self.relating_events = RelatingEvents(
            pool, readers, pages, self.visibility, events, account_data, self.history
        )
        self.threads = Threads(pool, readers, self.visibility, relations, events, account_data)
        self.thread_subscriptions = ThreadSubscriptions(pool, log, readers, self.history)
        self.initial_sync = RoomInitialSync(
            pool,
            log,
            readers,
            pages,
            self.state_reading,
            events,
            account_data,
            actions.publication,
            people.presence,
        )
        self.reports = Reports(pool, rooms, self.history)
