"""All services of a node, made one layer after another."""

from __future__ import annotations

from homeserver.api.services import Services
from homeserver.composition.accounts import Accounts
from homeserver.composition.encryption import Encryption
from homeserver.composition.engine import Engine
from homeserver.composition.peers import Peers
from homeserver.composition.remote import Remote, RemoteKeys
from homeserver.composition.rooms import People, RoomActions, RoomHistory
from homeserver.composition.syncing import Syncing
from homeserver.storage.health import Health


class NodeServices:
    """What there is above the engine; ``api`` are those that handlers call."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.encryption = encryption = Encryption(engine)
        self.accounts = accounts = Accounts(engine, encryption)
        self.peers = peers = Peers(engine, accounts)
        self.people = people = People(engine, accounts)
        self.actions = actions = RoomActions(engine, encryption, accounts, peers)
        self.past = past = RoomHistory(engine, accounts, peers, people, actions)
        self.syncing = Syncing(engine, encryption, accounts, peers, people, actions, past)
        self.remote_keys = RemoteKeys(engine, encryption)
        self.remote = Remote(engine, encryption, accounts, peers, people, actions, self.remote_keys)
        self.api = self._for_api()

    def _for_api(self) -> Services:
        accounts, encryption, people = self.accounts, self.encryption, self.people
        actions, past, syncing = self.actions, self.past, self.syncing
        keys, remote = self.remote_keys, self.remote
        return Services(
            authenticator=accounts.authenticator,
            rate_limits=accounts.rate_limits,
            registration=accounts.registration,
            shared_secret=accounts.shared_secret,
            login=accounts.login,
            sessions=accounts.sessions,
            user_interactive=accounts.user_interactive,
            account_management=actions.account_management,
            devices=accounts.devices,
            moderation=accounts.moderation,
            openid=accounts.openid,
            discovery=accounts.discovery,
            health=Health(self.engine.pool),
            profiles=accounts.profiles,
            all_profiles=actions.all_profiles,
            account_data=accounts.account_data,
            tags=accounts.tags,
            filters=accounts.filters,
            push_rules=accounts.push_rules,
            receipts=people.receipts,
            typing=people.typing,
            presence=people.presence,
            user_directory=people.directory,
            turn_servers=accounts.turn_servers,
            livekit=actions.livekit,
            notifications=syncing.notifications,
            key_backups=encryption.backups,
            key_uploads=encryption.uploads,
            key_queries=keys.queries,
            key_claims=keys.claims,
            device_changes=encryption.changes,
            cross_signing=encryption.cross_signing,
            signatures=keys.signatures,
            to_device=encryption.sending,
            dehydrated_devices=encryption.dehydrated_devices,
            rooms=self.engine.rooms,
            creation=actions.creation,
            upgrading=actions.upgrading,
            joining=actions.joining,
            inviting=actions.inviting,
            inviting_by_address=actions.inviting_by_address,
            leaving=actions.leaving,
            room_moderation=actions.moderation,
            sending=actions.sending,
            state_setting=actions.state_setting,
            delayed_events=actions.delayed_events,
            aliases=actions.aliases,
            publication=actions.publication,
            directory=actions.directory,
            directories=actions.directories,
            alias_lookup=actions.alias_lookup,
            public_rooms=actions.public_rooms,
            room_summaries=actions.summaries,
            space_hierarchy=actions.hierarchy,
            server_notices=actions.server_notices,
            history=past.history,
            state_reading=past.state_reading,
            relating_events=past.relating_events,
            threads=past.threads,
            thread_subscriptions=past.thread_subscriptions,
            room_initial_sync=past.initial_sync,
            reports=past.reports,
            sync=syncing.sync,
            sliding_sync=syncing.sliding_sync,
            old_events=syncing.old_events,
            federation_authenticator=remote.authenticator,
            own_keys=self.peers.own_keys,
            openid_proofs=remote.openid_proofs,
            notary=remote.notary,
            policy_answers=remote.policy_answers,
            federation_queries=remote.queries,
            federation_hierarchy=remote.hierarchy,
            inbox=remote.inbox,
            event_answers=remote.event_answers,
            resident=remote.resident,
            join_answers=remote.join_answers,
            user_key_answers=keys.answers,
            invited_here=remote.invited_here,
            third_party_invites=remote.third_party_invites,
            metrics=self.engine.metrics,
        )
