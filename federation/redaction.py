"""The redaction algorithm of each room version. Source: rooms/, "Redactions"."""

from __future__ import annotations

from federation.canonical import JsonObject
from federation.room_versions import RoomVersion


def redact(json: JsonObject, version: RoomVersion) -> JsonObject:
    """A copy of an event with only what a redaction keeps; ``unsigned`` is gone too.

    The input is untouched; values that are kept whole are shared with it.
    """
    # "the server must strip off any keys not in the following list"
    top_level = version.redaction.top_level
    kept = {key: value for key, value in json.items() if key in top_level}
    if "content" in json:
        content = json["content"]
        kept["content"] = (
            redact_content(json.get("type"), content, version) if isinstance(content, dict) else {}
        )
    return kept


def redact_content(event_type: object, content: JsonObject, version: RoomVersion) -> JsonObject:
    """What a redaction leaves of ``content`` for one event type."""
    rules = version.redaction
    # "The content object must also be stripped of all keys, unless it is one of the following …"
    if not isinstance(event_type, str):
        return {}
    if event_type in rules.keep_all_content_of:
        return content
    keys = rules.content.get(event_type)
    if keys is None:
        return {}
    kept = {key: value for key, value in content.items() if key in keys}
    if rules.keep_third_party_invite_signed and event_type == "m.room.member":
        # "Additionally, it allows the `signed` key of the `third_party_invite` key." The key itself
        # stays even if it holds no `signed`; every implementation in use reads it so, and event IDs
        # depend on it.
        invite = content.get("third_party_invite")
        if isinstance(invite, dict):
            kept["third_party_invite"] = {"signed": invite["signed"]} if "signed" in invite else {}
    return kept
