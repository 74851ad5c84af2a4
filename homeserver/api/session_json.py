"""What logging in and registering share: the device that is asked for, and the answer."""

from __future__ import annotations

from federation.event import JsonObject
from homeserver.accounts.registration import Registered
from homeserver.accounts.sessions import DeviceWish, Session, Tokens
from homeserver.api.request import flag_field, optional_text_field


def device_wish(body: JsonObject) -> DeviceWish:
    """The device that a body asks for. Raises BadJson, InvalidParam."""
    return DeviceWish(
        device_id=optional_text_field(body, "device_id"),
        display_name=optional_text_field(body, "initial_device_display_name"),
        refresh=flag_field(body, "refresh_token", False),
    )


def tokens_json(tokens: Tokens) -> JsonObject:
    """Tokens as `refresh` answers; what does not apply is left out."""
    body: JsonObject = {"access_token": tokens.access_token}
    if tokens.refresh_token is not None:
        body["refresh_token"] = tokens.refresh_token
    if tokens.expires_in_ms is not None:
        body["expires_in_ms"] = tokens.expires_in_ms
    return body


def session_json(session: Session) -> JsonObject:
    """A session as `login` answers."""
    return {"user_id": session.user_id, "device_id": session.device_id, **tokens_json(session.tokens)}


def registered_json(registered: Registered) -> JsonObject:
    """A new account as `register` answers, without a device if that was inhibited."""
    return session_json(registered.session) if registered.session else {"user_id": registered.user_id}
