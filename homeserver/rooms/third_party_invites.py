"""Invites of somebody known by an e-mail address or a phone number, once it is known who that is.

Source: Client-Server API, "Third-party invites"; Server-Server API, "Third-party invites".
"""

from __future__ import annotations

from federation.event import JsonObject
from homeserver.errors import BadJson, Forbidden
from homeserver.rooms.draft import Draft
from homeserver.rooms.room import MEMBER, Room

THIRD_PARTY_INVITE = "m.room.third_party_invite"


def third_party_invite(room: Room, user_id: str, signed: JsonObject) -> Draft:
    """The invite that a proof of owning an address stands for; the rules check its signature.

    `signed` has `sender`, `mxid`, `token` and `signatures`. Raises BadJson, Forbidden.
    """
    sender, mxid, token = signed.get("sender"), signed.get("mxid"), signed.get("token")
    if not isinstance(sender, str) or not isinstance(token, str) or not isinstance(mxid, str):
        raise BadJson("third_party_signed must have sender, mxid and token")
    if not isinstance(signed.get("signatures"), dict):
        raise BadJson("third_party_signed must have signatures")
    invite = room.state_event(THIRD_PARTY_INVITE, token)
    if invite is None or mxid != user_id or invite.sender != sender:
        raise Forbidden("This room has no such third-party invite for you")
    if not room.is_local(sender):
        raise Forbidden("Only the inviting user's server can turn this third-party invite into an invite")
    display_name = invite.content.get("display_name")
    proof = {"mxid": mxid, "token": token, "signatures": signed["signatures"]}
    content: JsonObject = {
        "membership": "invite",
        "third_party_invite": {
            "display_name": display_name if isinstance(display_name, str) else "",
            "signed": proof,
        },
    }
    return Draft(sender=sender, type=MEMBER, state_key=user_id, content=content)
