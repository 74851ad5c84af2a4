"""The services that handlers call, one field each. `homeserver.app` makes them."""

from __future__ import annotations

from dataclasses import dataclass

from homeserver.accounts.account_data import AccountData
from homeserver.accounts.authenticator import Authenticator
from homeserver.accounts.devices import Devices
from homeserver.accounts.discovery import Discovery
from homeserver.accounts.filters import Filters
from homeserver.accounts.login import Login
from homeserver.accounts.management import AccountManagement
from homeserver.accounts.moderation import Moderation
from homeserver.accounts.openid import OpenID
from homeserver.accounts.profiles import Profiles
from homeserver.accounts.push_rules import PushRules
from homeserver.accounts.rate_limits import RateLimits
from homeserver.accounts.registration import Registration
from homeserver.accounts.sessions import Sessions
from homeserver.accounts.shared_secret import SharedSecretRegistration
from homeserver.accounts.tags import Tags
from homeserver.accounts.turn_servers import TurnServers
from homeserver.accounts.user_interactive import UserInteractive
from homeserver.encryption.cross_signing import CrossSigning
from homeserver.encryption.dehydrated_devices import DehydratedDevices
from homeserver.encryption.device_changes import DeviceChanges
from homeserver.encryption.key_backup import KeyBackups
from homeserver.encryption.key_uploads import KeyUploads
from homeserver.encryption.signatures import Signatures
from homeserver.encryption.to_device_sending import ToDeviceSending
from homeserver.federating.alias_lookup import AliasLookup
from homeserver.federating.authenticator import FederationAuthenticator
from homeserver.federating.directories import Directories
from homeserver.federating.event_answers import EventAnswers
from homeserver.federating.hierarchy import FederationHierarchy
from homeserver.federating.inbox import Inbox
from homeserver.federating.invited import InvitedHere
from homeserver.federating.join_answers import JoinAnswers
from homeserver.federating.livekit import LiveKit
from homeserver.federating.notary import Notary
from homeserver.federating.openid_proofs import OpenIDProofs
from homeserver.federating.own_keys import OwnKeys
from homeserver.federating.policy_answers import PolicyAnswers
from homeserver.federating.queries import FederationQueries
from homeserver.federating.remote_profiles import AllProfiles
from homeserver.federating.resident import Resident
from homeserver.federating.third_party_invites import ThirdPartyInvites
from homeserver.federating.user_key_answers import UserKeyAnswers
from homeserver.federating.user_keys import KeyClaims, KeyQueries
from homeserver.metrics import Metrics
from homeserver.rooms.aliases import Aliases, Publication
from homeserver.rooms.creation import Creation
from homeserver.rooms.delayed_events import DelayedEvents
from homeserver.rooms.directory import Directory
from homeserver.rooms.history import History
from homeserver.rooms.inviting import Inviting
from homeserver.rooms.joining import Joining
from homeserver.rooms.leaving import Leaving
from homeserver.rooms.moderation import RoomModeration
from homeserver.rooms.presence import Presence
from homeserver.rooms.public_rooms import PublicRooms
from homeserver.rooms.receipts import Receipts
from homeserver.rooms.relating_events import RelatingEvents
from homeserver.rooms.reports import Reports
from homeserver.rooms.room_initial_sync import RoomInitialSync
from homeserver.rooms.room_summaries import RoomSummaries
from homeserver.rooms.rooms import Rooms
from homeserver.rooms.sending import Sending
from homeserver.rooms.server_notices import ServerNotices
from homeserver.rooms.space_hierarchy import SpaceHierarchy
from homeserver.rooms.state_reading import StateReading
from homeserver.rooms.state_setting import StateSetting
from homeserver.rooms.third_party_invites import InvitingByAddress
from homeserver.rooms.thread_subscriptions import ThreadSubscriptions
from homeserver.rooms.threads import Threads
from homeserver.rooms.typing_notifications import TypingNotifications
from homeserver.rooms.upgrading import Upgrading
from homeserver.rooms.user_directory import UserDirectory
from homeserver.storage.health import Health
from homeserver.sync.notifications import Notifications
from homeserver.sync.old_events import OldEvents
from homeserver.sync.service import Sync
from homeserver.sync.sliding.service import SlidingSync


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """All services of a node."""

    # What the dispatcher needs, and accounts
    authenticator: Authenticator
    rate_limits: RateLimits
    registration: Registration
    shared_secret: SharedSecretRegistration
    login: Login
    sessions: Sessions
    user_interactive: UserInteractive
    account_management: AccountManagement
    devices: Devices
    moderation: Moderation
    openid: OpenID
    discovery: Discovery
    health: Health

    # What users keep on the node, and tell each other
    profiles: Profiles
    all_profiles: AllProfiles
    account_data: AccountData
    tags: Tags
    filters: Filters
    push_rules: PushRules
    receipts: Receipts
    typing: TypingNotifications
    presence: Presence
    user_directory: UserDirectory
    turn_servers: TurnServers
    livekit: LiveKit
    notifications: Notifications

    # Encryption
    key_backups: KeyBackups
    key_uploads: KeyUploads
    key_queries: KeyQueries
    key_claims: KeyClaims
    device_changes: DeviceChanges
    cross_signing: CrossSigning
    signatures: Signatures
    to_device: ToDeviceSending
    dehydrated_devices: DehydratedDevices

    # Rooms: making them, entering and leaving them, sending into them
    rooms: Rooms
    creation: Creation
    upgrading: Upgrading
    joining: Joining
    inviting: Inviting
    inviting_by_address: InvitingByAddress
    leaving: Leaving
    room_moderation: RoomModeration
    sending: Sending
    state_setting: StateSetting
    delayed_events: DelayedEvents
    aliases: Aliases
    publication: Publication

    # Finding rooms; what the server has to say
    directory: Directory
    directories: Directories
    alias_lookup: AliasLookup
    public_rooms: PublicRooms
    room_summaries: RoomSummaries
    space_hierarchy: SpaceHierarchy
    server_notices: ServerNotices

    # The past of rooms
    history: History
    state_reading: StateReading
    relating_events: RelatingEvents
    threads: Threads
    thread_subscriptions: ThreadSubscriptions
    room_initial_sync: RoomInitialSync
    reports: Reports

    # What clients have missed
    sync: Sync
    sliding_sync: SlidingSync
    old_events: OldEvents

    # Other servers
    federation_authenticator: FederationAuthenticator
    own_keys: OwnKeys
    openid_proofs: OpenIDProofs
    notary: Notary
    policy_answers: PolicyAnswers
    federation_queries: FederationQueries
    federation_hierarchy: FederationHierarchy
    inbox: Inbox
    event_answers: EventAnswers
    resident: Resident
    join_answers: JoinAnswers
    user_key_answers: UserKeyAnswers
    invited_here: InvitedHere
    third_party_invites: ThirdPartyInvites

    # The node itself
    metrics: Metrics
