"""The redaction algorithm of each room version. Source: rooms/, "Redactions"."""

from __future__ import annotations

from typing import Any

from federation.room_versions import RoomVersion

JsonObject = dict[str, Any]


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
    if event_type in rules.keep_all_content_of:
        return content
    keys = rules.content.get(event_type) if isinstance(event_type, str) else None
    if keys is None:
        return {}
    kept = {key: value for key, value in content.items() if key in keys}
    if rules.keep_third_party_invite_signed and event_type == "m.room.member":
        # "Additionally, it allows the `signed` key of the `third_party_invite` key."
        invite = content.get("third_party_invite")
        if isinstance(invite, dict) and "signed" in invite:
            kept["third_party_invite"] = {"signed": invite["signed"]}
    return kept
