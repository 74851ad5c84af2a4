"""What differs between room versions 1 to 12, one row each. Source: Room Versions.

Rules ask for a flag and never compare a version's name, so a new version is a new row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from types import MappingProxyType

from federation.errors import UnknownRoomVersion


class StateResolution(Enum):
    """Which state resolution algorithm a room uses."""

    V1 = "1"
    V2 = "2"
    V2_1 = "2.1"


class EventIdFormat(Enum):
    """How an event gets its ID. Source: rooms/v1, v3 and v4, "Event IDs"."""

    CHOSEN_BY_SERVER = "$opaque:domain"
    """Chosen by the sending server and carried in the event; references are ``[id, hashes]`` pairs."""
    REFERENCE_HASH = "$base64"
    """The reference hash in standard unpadded Base64."""
    REFERENCE_HASH_URL_SAFE = "$base64url"
    """The reference hash in URL-safe unpadded Base64."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RedactionRules:
    """What survives a redaction. Source: rooms/, "Redactions"."""

    top_level: frozenset[str]
    content: Mapping[str, frozenset[str]]
    """Event type to the keys of ``content`` that are kept; all keys go for types not named."""
    keep_all_content_of: frozenset[str] = frozenset()
    keep_third_party_invite_signed: bool = False
    """Member events keep ``third_party_invite``, reduced to ``signed`` (v11)."""

    def keeping(self, event_type: str, *keys: str) -> RedactionRules:
        """These rules with more ``content`` keys kept for one event type."""
        kept = self.content.get(event_type, frozenset()) | frozenset(keys)
        return replace(self, content=MappingProxyType({**self.content, event_type: kept}))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RoomVersion:
    """One row of `ROOM_VERSIONS`. Rows are compared by identity; pickling keeps that identity."""

    id: str
    state_resolution: StateResolution = StateResolution.V1
    event_id_format: EventIdFormat = EventIdFormat.CHOSEN_BY_SERVER
    redaction: RedactionRules
    redaction_auth_rule: bool = True
    """Until v2: redactions are refused by authorisation rule 11 ("Authorisation rules")."""
    enforce_key_validity: bool = False
    """From v5: a signing key must have been valid at ``origin_server_ts``."""
    strict_canonical_json: bool = False
    """From v6: floats and integers beyond ±(2**53 - 1) are refused; ``depth`` shares that limit."""
    special_case_aliases_auth: bool = True
    """Until v5: ``m.room.aliases`` has an authorisation rule of its own."""
    limit_notifications_power_levels: bool = False
    """From v6: changes of ``notifications`` need the power that they grant."""
    knocking: bool = False
    """From v7: membership and join rule ``knock``."""
    restricted_joins: bool = False
    """From v8: join rule ``restricted`` and ``join_authorised_via_users_server``."""
    knock_restricted: bool = False
    """From v10: join rule ``knock_restricted``."""
    integer_power_levels: bool = False
    """From v10: power levels must be integers; until v9 also strings, until v5 also floats."""
    creator_in_content: bool = True
    """Until v10: the create event names the creator in ``content.creator``; later it is ``sender``."""
    redacts_in_content: bool = False
    """From v11: a redaction names its target in ``content.redacts``, not at the top level."""
    privileged_creators: bool = False
    """From v12: creators, with ``additional_creators``, have power above every integer."""
    room_id_is_create_hash: bool = False
    """From v12: the room ID is the create event's ID under ``!``; create events carry no
    ``room_id`` and are never selected as auth events."""

    @property
    def event_id_is_hash(self) -> bool:
        """Whether events carry no ``event_id``, and references are plain IDs (from v3)."""
        return self.event_id_format is not EventIdFormat.CHOSEN_BY_SERVER

    @property
    def depth_max(self) -> int:
        """The highest ``depth`` an event may have. Source: PDU schemas of rooms/v1 and rooms/v6."""
        return 2**53 - 1 if self.strict_canonical_json else 2**63 - 1

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return room_version, (self.id,)


_REDACTION_V1 = RedactionRules(
    top_level=frozenset({
        "event_id", "type", "room_id", "sender", "state_key", "content", "hashes", "signatures", "depth",
        "prev_events", "prev_state", "auth_events", "origin", "origin_server_ts", "membership",
    }),
    content=MappingProxyType({
        "m.room.member": frozenset({"membership"}),
        "m.room.create": frozenset({"creator"}),
        "m.room.join_rules": frozenset({"join_rule"}),
        "m.room.power_levels": frozenset({
            "ban", "events", "events_default", "kick", "redact", "state_default", "users", "users_default",
        }),
        "m.room.aliases": frozenset({"aliases"}),
        "m.room.history_visibility": frozenset({"history_visibility"}),
    }),
)  # fmt: skip
_REDACTION_V6 = replace(
    _REDACTION_V1,
    content=MappingProxyType({t: keys for t, keys in _REDACTION_V1.content.items() if t != "m.room.aliases"}),
)
_REDACTION_V8 = _REDACTION_V6.keeping("m.room.join_rules", "allow")
_REDACTION_V9 = _REDACTION_V8.keeping("m.room.member", "join_authorised_via_users_server")
_REDACTION_V11 = replace(
    _REDACTION_V9.keeping("m.room.power_levels", "invite").keeping("m.room.redaction", "redacts"),
    top_level=_REDACTION_V1.top_level - {"origin", "membership", "prev_state"},
    keep_all_content_of=frozenset({"m.room.create"}),
    keep_third_party_invite_signed=True,
)

_V1 = RoomVersion(id="1", redaction=_REDACTION_V1)
_V2 = replace(_V1, id="2", state_resolution=StateResolution.V2)
_V3 = replace(_V2, id="3", event_id_format=EventIdFormat.REFERENCE_HASH, redaction_auth_rule=False)
_V4 = replace(_V3, id="4", event_id_format=EventIdFormat.REFERENCE_HASH_URL_SAFE)
_V5 = replace(_V4, id="5", enforce_key_validity=True)
_V6 = replace(
    _V5, id="6", redaction=_REDACTION_V6, strict_canonical_json=True, special_case_aliases_auth=False,
    limit_notifications_power_levels=True,
)  # fmt: skip
_V7 = replace(_V6, id="7", knocking=True)
_V8 = replace(_V7, id="8", redaction=_REDACTION_V8, restricted_joins=True)
_V9 = replace(_V8, id="9", redaction=_REDACTION_V9)
_V10 = replace(_V9, id="10", knock_restricted=True, integer_power_levels=True)
_V11 = replace(_V10, id="11", redaction=_REDACTION_V11, creator_in_content=False, redacts_in_content=True)
_V12 = replace(
    _V11, id="12", state_resolution=StateResolution.V2_1, privileged_creators=True,
    room_id_is_create_hash=True,
)  # fmt: skip

ROOM_VERSIONS: Mapping[str, RoomVersion] = MappingProxyType({
    version.id: version for version in (_V1, _V2, _V3, _V4, _V5, _V6, _V7, _V8, _V9, _V10, _V11, _V12)
})  # fmt: skip
DEFAULT_ROOM_VERSION = "12"


def room_version(version_id: str) -> RoomVersion:
    """The row of one version. Raises UnknownRoomVersion."""
    version = ROOM_VERSIONS.get(version_id)
    if version is None:
        raise UnknownRoomVersion(version_id)
    return version
