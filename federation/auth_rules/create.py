"""Authorisation rule 1: ``m.room.create``."""

from __future__ import annotations

from federation.errors import BadIdentifier, Rejected
from federation.event import PDU
from federation.identifiers import server_name_of, split_user_id
from federation.room_versions import ROOM_VERSIONS


def check_create(event: PDU) -> None:
    """Authorise a create event, which needs no state. Raises Rejected."""
    version, content = event.version, event.content
    # "If it has any prev_events, reject."
    if event.prev_events:
        raise Rejected("create.prev_events", event.event_id)
    if version.room_id_is_create_hash:
        # "If the event has a room_id, reject." (v12)
        if "room_id" in event.json:
            raise Rejected("create.room_id", event.event_id)
    # "If the domain of the room_id does not match the domain of the sender, reject." (until v11)
    elif not _same_server(event.room_id, event.sender):
        raise Rejected("create.room_id_domain", event.event_id)
    # "If content.room_version is present and is not a recognised version, reject."
    if "room_version" in content:
        named = content["room_version"]
        if not isinstance(named, str) or named not in ROOM_VERSIONS:
            raise Rejected("create.room_version", event.event_id)
    # "If content has no creator property, reject." (until v10)
    if version.creator_in_content and "creator" not in content:
        raise Rejected("create.no_creator", event.event_id)
    # "If additional_creators is present in content and is not an array of strings where each string
    # passes the same user ID validation applied to sender, reject." (v12)
    if version.privileged_creators and "additional_creators" in content:
        _check_additional_creators(event, content["additional_creators"])


def _check_additional_creators(event: PDU, creators: object) -> None:
    if not isinstance(creators, list):
        raise Rejected("create.additional_creators", event.event_id)
    for creator in creators:
        if not isinstance(creator, str) or not is_user_id(creator):
            raise Rejected("create.additional_creators", event.event_id)


def is_user_id(text: str) -> bool:
    """Whether ``text`` passes the validation of an event's ``sender``: historical user IDs included."""
    try:
        split_user_id(text)
    except BadIdentifier:
        return False
    return True


def _same_server(room_id: str, sender: str) -> bool:
    try:
        return server_name_of(room_id) == server_name_of(sender)
    except BadIdentifier:
        return False
