"""The cheap question before the rules: could anyone with the default rules be notified of this?

Counts are kept for very many events, of which most (state, reactions, edits, receipts of calls)
notify nobody. What stands here is derived from `default_rules` and held to them by a test.
"""

from __future__ import annotations

from typing import Any

from homeserver.push_rules.event import PushEvent

MENTIONED_USERS = ("content", "m.mentions", "user_ids")

_NOTIFYING_TYPES = frozenset({"m.call.invite", "m.room.encrypted", "m.room.message"})


def may_notify(event: PushEvent) -> bool:
    """Exact for users whose rules are all defaults: False if no such user is notified of the event
    in any circumstances, True if some user is in some."""
    content = event.content
    if _lower(content.get("msgtype")) == "m.notice":
        return False
    kind = event.type_lower
    if kind == "m.room.member":
        return (
            event.state_key not in (None, "", event.sender) and _lower(content.get("membership")) == "invite"
        )
    mentions = content.get("m.mentions")
    if mentions is not None and _mentions_anyone(mentions, event.sender):
        return True
    if kind == "m.room.tombstone":
        return event.state_key == ""
    if kind not in _NOTIFYING_TYPES:
        return False
    relation = content.get("m.relates_to")
    return not (isinstance(relation, dict) and relation.get("rel_type") == "m.replace")


def singled_out_users(event: PushEvent) -> frozenset[str]:
    """The users for whom the default rules may say something else than for anyone else.

    To all other users with the default rules, but the sender, applies what the rules say for
    NOBODY, so that a large room costs one evaluation and not one a member.
    """
    named = event.strings(MENTIONED_USERS)
    return named if event.state_key is None else named | {event.state_key}


def _mentions_anyone(mentions: Any, sender: str) -> bool:
    if not isinstance(mentions, dict):
        return False
    if mentions.get("room") is True:
        return True
    user_ids = mentions.get("user_ids")
    return isinstance(user_ids, list) and any(
        isinstance(each, str) and each not in ("", sender) for each in user_ids
    )


def _lower(value: Any) -> str | None:
    return value.lower() if isinstance(value, str) else None
