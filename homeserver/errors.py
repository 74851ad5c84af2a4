"""The errors that a request may end in: one class per `errcode`, the status on the class.

Source: Client-Server API, "Standard error response". A message is shown to whoever asked, so it
is safe to show and says what to do; `raise … from cause` keeps the cause for the log. Only
`homeserver.api.dispatch` turns an error into JSON.
"""

from __future__ import annotations

from typing import Any


class MatrixError(Exception):
    """A refusal in the specification's form; `extra` are further keys of the error object."""

    status: int = 400
    errcode: str = "M_UNKNOWN"

    def __init__(self, message: str, **extra: Any) -> None:
        super().__init__(message)
        self.message = message
        self.extra = extra

    def body(self) -> dict[str, Any]:
        """The error as a JSON object."""
        return {"errcode": self.errcode, "error": self.message, **self.extra}


class Unknown(MatrixError):
    """A request that no other code describes."""


class BadJson(MatrixError):
    """Valid JSON of the wrong shape: missing keys, wrong types, values out of range."""

    errcode = "M_BAD_JSON"


class NotJson(MatrixError):
    """A body that is no JSON."""

    errcode = "M_NOT_JSON"


class InvalidParam(MatrixError):
    """A parameter with a wrong value."""

    errcode = "M_INVALID_PARAM"


class MissingParam(MatrixError):
    """A required parameter is missing."""

    errcode = "M_MISSING_PARAM"


class Forbidden(MatrixError):
    """Not allowed to this user."""

    status, errcode = 403, "M_FORBIDDEN"


class GuestAccessForbidden(MatrixError):
    """Guests may not do this."""

    status, errcode = 403, "M_GUEST_ACCESS_FORBIDDEN"


class NotFound(MatrixError):
    """No such resource, or none that this user may know of."""

    status, errcode = 404, "M_NOT_FOUND"


class Unrecognized(MatrixError):
    """No such endpoint."""

    status, errcode = 404, "M_UNRECOGNIZED"


class MethodNotAllowed(MatrixError):
    """The endpoint exists, but not with this method."""

    status, errcode = 405, "M_UNRECOGNIZED"


class MissingToken(MatrixError):
    """The endpoint wants an access token."""

    status, errcode = 401, "M_MISSING_TOKEN"


class UnknownToken(MatrixError):
    """An access or refresh token that is not, or no longer, valid; may carry `soft_logout`."""

    status, errcode = 401, "M_UNKNOWN_TOKEN"


class Unauthorized(MatrixError):
    """A request of another server whose sender is not proven (Server-Server API, "Authentication")."""

    status, errcode = 401, "M_UNAUTHORIZED"


class MalformedAuthorization(Unauthorized):
    """A request of another server whose X-Matrix header cannot be read."""

    status = 400


class UserLocked(MatrixError):
    """The account is locked (Client-Server API, "Account locking"); carries `soft_logout: true`."""

    status, errcode = 401, "M_USER_LOCKED"


class UserSuspended(MatrixError):
    """The account is suspended and may not do this ("Account suspension")."""

    status, errcode = 403, "M_USER_SUSPENDED"


class UserDeactivated(MatrixError):
    """The account was deactivated."""

    status, errcode = 403, "M_USER_DEACTIVATED"


class TooLarge(MatrixError):
    """A body or an event over its limit."""

    status, errcode = 413, "M_TOO_LARGE"


class LimitExceeded(MatrixError):
    """Too many requests; `retry_after_ms` says when to come back."""

    status, errcode = 429, "M_LIMIT_EXCEEDED"

    def __init__(self, retry_after_ms: int) -> None:
        super().__init__("Too many requests: wait a while, then try again", retry_after_ms=retry_after_ms)
        self.retry_after_ms = retry_after_ms


class RoomInUse(MatrixError):
    """The room alias is taken."""

    errcode = "M_ROOM_IN_USE"


class InvalidRoomState(MatrixError):
    """The initial state of a new room is not valid."""

    errcode = "M_INVALID_ROOM_STATE"


class UnsupportedRoomVersion(MatrixError):
    """A room version that this node does not know."""

    errcode = "M_UNSUPPORTED_ROOM_VERSION"


class IncompatibleRoomVersion(MatrixError):
    """The room to join has a version that this node does not know; carries `room_version`."""

    errcode = "M_INCOMPATIBLE_ROOM_VERSION"


class BadState(MatrixError):
    """The change makes no sense in the present state, such as unbanning who is not banned."""

    status, errcode = 403, "M_BAD_STATE"


class Unavailable(MatrixError):
    """The node cannot answer now, for example because it is stopping; the client may try again."""

    status, errcode = 503, "M_UNKNOWN"


class PeerFailed(MatrixError):
    """Another server, which had to be asked, gave no usable answer; trying again later may help."""

    status, errcode = 502, "M_UNKNOWN"


class Relayed(MatrixError):
    """Another server's refusal, passed on as it was given where the specification wants that."""

    def __init__(self, status: int, errcode: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.errcode = errcode


class BodyTimeout(MatrixError):
    """A request whose body did not arrive in time."""

    status = 408


class ServerControlled(MatrixError):
    """Account data of a type that only the server may write (`setAccountData`)."""

    status, errcode = 405, "M_BAD_JSON"


class KeyTooLarge(MatrixError):
    """The name of a profile field is too long (`setProfileField`)."""

    errcode = "M_KEY_TOO_LARGE"


class ProfileTooLarge(MatrixError):
    """The profile as a whole would be too large (`setProfileField`)."""

    errcode = "M_PROFILE_TOO_LARGE"


class InviteBlocked(MatrixError):
    """The invited user takes no invites (Client-Server API, "Invite permission")."""

    status, errcode = 403, "M_INVITE_BLOCKED"


class BadAlias(MatrixError):
    """A canonical alias that does not point to its room (`setRoomStateWithKey`)."""

    errcode = "M_BAD_ALIAS"


class DuplicateAnnotation(MatrixError):
    """The user has annotated the event in this way already (`sendMessage`)."""

    errcode = "M_DUPLICATE_ANNOTATION"


class ServerNotTrusted(MatrixError):
    """A third-party server that this node does not ask, such as an identity server."""

    status, errcode = 403, "M_SERVER_NOT_TRUSTED"


class CannotLeaveServerNoticeRoom(MatrixError):
    """An invite to the room of server notices cannot be turned down ("Server Notices")."""

    status, errcode = 403, "M_CANNOT_LEAVE_SERVER_NOTICE_ROOM"


class WrongRoomKeysVersion(MatrixError):
    """The backup is not the current one, which `current_version` names (`putRoomKeys`)."""

    status, errcode = 403, "M_WRONG_ROOM_KEYS_VERSION"


class DelayTooLong(MatrixError):
    """An event is to be delayed by more than the node allows (MSC4140, in the form that clients know)."""

    def __init__(self, message: str, longest_ms: int) -> None:
        super().__init__(
            message,
            **{
                "org.matrix.msc4140.errcode": "M_MAX_DELAY_EXCEEDED",
                "org.matrix.msc4140.max_delay": longest_ms,
            },
        )


class InvalidSignature(MatrixError):
    """A key whose signature does not verify (`uploadCrossSigningKeys`)."""

    errcode = "M_INVALID_SIGNATURE"
