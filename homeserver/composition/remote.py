"""What other servers send and ask, and the keys of their users."""

from __future__ import annotations

from homeserver.composition.accounts import Accounts
from homeserver.composition.encryption import Encryption
from homeserver.composition.engine import Engine
from homeserver.composition.peers import Peers
from homeserver.composition.rooms import People, RoomActions
from homeserver.encryption.signatures import Signatures
from homeserver.federating.authenticator import FederationAuthenticator
from homeserver.federating.device_list_edus import DeviceListEdus
from homeserver.federating.edus import EduHandler, EduHandlers
from homeserver.federating.event_answers import EventAnswers
from homeserver.federating.hierarchy import FederationHierarchy
from homeserver.federating.inbox import Inbox
from homeserver.federating.invited import InvitedHere
from homeserver.federating.join_answers import JoinAnswers
from homeserver.federating.notary import Notary
from homeserver.federating.openid_proofs import OpenIDProofs
from homeserver.federating.policy_answers import PolicyAnswers
from homeserver.federating.presence_edus import PresenceEdus
from homeserver.federating.queries import FederationQueries
from homeserver.federating.receipt_edus import ReceiptEdus
from homeserver.federating.remote_lists import RemoteLists
from homeserver.federating.resident import Resident
from homeserver.federating.room_state_answers import RoomStateAnswers
from homeserver.federating.server_visibility import ServerVisibility
from homeserver.federating.third_party_invites import ThirdPartyInvites
from homeserver.federating.to_device_edus import ToDeviceEdus
from homeserver.federating.typing_edus import TypingEdus
from homeserver.federating.user_key_answers import UserKeyAnswers
from homeserver.federating.user_keys import KeyClaims, KeyQueries
from homeserver.federating.waiting_events import WaitingEvents


class RemoteKeys:
    """Keys of all users, wherever they are, and who may be told of ours."""

    def __init__(self, engine: Engine, encryption: Encryption) -> None:
        pool, log, client, server_name = engine.pool, engine.log, engine.client, engine.server_name
        self.lists = RemoteLists(pool, log, encryption.lists, client)
        self.edus = DeviceListEdus(pool, log, encryption.lists, self.lists)
        self.queries = KeyQueries(server_name, pool, encryption.local_keys, client, self.lists)
        self.claims = KeyClaims(server_name, encryption.local_claims, client)
        self.answers = UserKeyAnswers(pool, server_name, encryption.local_keys, encryption.local_claims)
        self.signatures = Signatures(
            pool, log, encryption.lists, encryption.cross_signing, self.queries.master_keys
        )


class Remote:
    """The services behind the operations of the Server-Server API."""

    def __init__(
        self,
        engine: Engine,
        encryption: Encryption,
        accounts: Accounts,
        peers: Peers,
        people: People,
        actions: RoomActions,
        keys: RemoteKeys,
    ) -> None:
        pool, log, metrics, rooms = engine.pool, engine.log, engine.metrics, engine.rooms
        server_name, federation, sender = engine.server_name, engine.config.federation, peers.sender
        access, verifier = peers.access, peers.verifier
        self.authenticator = FederationAuthenticator(
            server_name,
            engine.servers,
            peers.key_ring,
            sender.heard_from,
            metrics.count_federation_refusal,
        )
        self.notary = Notary(peers.key_ring, peers.own_keys, engine.servers)
        self.openid_proofs = OpenIDProofs(server_name, accounts.openid, engine.client)
        self.policy_answers = PolicyAnswers(rooms, access, verifier, engine.own_policy)
        self.queries = FederationQueries(server_name, accounts.profiles, actions.directory, rooms)
        self.hierarchy = FederationHierarchy(pool, rooms)

        self.waiting_events = waiting = WaitingEvents(
            pool,
            rooms,
            peers.filling,
            engine.supervisor,
            count_event=metrics.count_federation_event,
        )
        metrics.watch_queue("waiting_events", lambda: waiting.count)
        self.invited_here = InvitedHere(
            pool,
            rooms,
            engine.receiving,
            peers.outside,
            access,
            verifier,
            accounts.account_data,
            server_name,
            engine.key,
        )
        edu_handlers: dict[str, EduHandler] = {
            "m.typing": TypingEdus(rooms, engine.ephemeral, sender).handle,
            "m.receipt": ReceiptEdus(pool, log, rooms, sender).handle,
            "m.direct_to_device": ToDeviceEdus(log, encryption.sending).handle,
            "m.device_list_update": keys.edus.handle_update,
            "m.signing_key_update": keys.edus.handle_signing_keys,
            "m.presence": PresenceEdus(people.presence, sender, federation.presence_servers).handle,
        }
        self.inbox = Inbox(
            rooms,
            access,
            verifier,
            engine.receiving,
            waiting,
            peers.joining,
            self.invited_here,
            EduHandlers(edu_handlers, access, metrics.count_federation_edu),
            count_event=metrics.count_federation_event,
            count_refusal=metrics.count_federation_event_refusal,
        )

        states = RoomStateAnswers(pool, engine.snapshots, engine.chains)
        visibility = ServerVisibility(pool, accounts.erased_users)
        self.event_answers = EventAnswers(server_name, pool, rooms, access, states, visibility)
        self.join_answers = JoinAnswers(states, server_name, federation.omit_members_from)
        self.resident = Resident(rooms, engine.receiving, access, verifier, server_name, engine.key)
        self.third_party_invites = ThirdPartyInvites(
            pool, engine.client, rooms, self.resident, peers.inviting, actions.proofs, server_name
        )
