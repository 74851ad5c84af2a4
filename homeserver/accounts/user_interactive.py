"""User-interactive authentication: who asks for something grave proves themselves again, in stages.

Source: Client-Server API, "User-Interactive Authentication API". A session belongs to one operation, one
user and (but for registration) one request body, so that what a user agreed to cannot be exchanged for
something else.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256

import orjson

from federation.event import JsonObject
from homeserver.clock import Clock, now_ms
from homeserver.errors import BadJson, Forbidden, LimitExceeded, MatrixError, Unavailable, Unknown
from homeserver.requester import Requester

Flows = tuple[tuple[str, ...], ...]

PASSWORD = "m.login.password"
DUMMY = "m.login.dummy"
REGISTRATION_TOKEN = "m.login.registration_token"
OWN_PASSWORD: Flows = ((PASSWORD,),)

SESSIONS_MAX = 5_000  # of users, and as many of people who have no account yet


class InteractionRequired(MatrixError):
    """There are stages to complete; `failure` is why the last attempt did not count, if there was one."""

    status = 401

    def __init__(
        self, session: str, flows: Flows, completed: list[str], failure: MatrixError | None = None
    ) -> None:
        super().__init__(failure.message if failure else "Prove who you are to go on")
        self._body: JsonObject = {
            "flows": [{"stages": list(stages)} for stages in flows],
            "params": {},
            "session": session,
            **({"completed": completed} if completed or failure else {}),
            **(failure.body() if failure else {}),
        }

    def body(self) -> JsonObject:
        """The answer that lists the flows, what is completed, and the session."""
        return self._body


@dataclass(frozen=True, slots=True)
class Attempt:
    """A client's attempt at one stage: the `auth` object, the requester if there is one, the address."""

    auth: JsonObject = field(repr=False)
    requester: Requester | None
    address: str


Stage = Callable[[Attempt], Awaitable[None]]
"""Checks an attempt; raises a MatrixError if it fails."""


@dataclass(slots=True)
class _Session:
    operation: str
    requester: Requester | None
    body_digest: bytes | None
    expires_ms: int
    flows: Flows = ()
    completed: list[str] = field(default_factory=list)
    answer: JsonObject | None = field(default=None, repr=False)

    @property
    def user_nid(self) -> int | None:
        return self.requester.user_nid if self.requester else None


class WrongUser(Forbidden):
    """Someone offers to prove that they are another user than the one concerned: no stage to be retried."""


class UserInteractive:
    """The sessions, in memory, and the stages that this node knows."""

    def __init__(self, stages: Mapping[str, Stage], lifetime_ms: int, clock: Clock = now_ms) -> None:
        self._stages = stages
        self._lifetime_ms = lifetime_ms
        self._clock = clock
        self._of_users: dict[str, _Session] = {}
        self._of_strangers: dict[str, _Session] = {}

    async def require(
        self,
        operation: str,
        body: JsonObject,
        flows: Flows,
        requester: Requester | None,
        address: str,
        *,
        bind_body: bool = True,
    ) -> None:
        """Return once all stages of one of the flows are completed; the session ends with that.

        ``operation`` names method and path of the request, ``body`` is its body with `auth`. Raises
        InteractionRequired, BadJson, Forbidden (the session was begun for something else), LimitExceeded.
        """
        auth = body.get("auth")
        digest = _digest(body) if bind_body else None
        user_nid = requester.user_nid if requester else None
        sessions = self._of_users if requester else self._of_strangers
        if auth is None:
            raise InteractionRequired(self._begin(sessions, operation, requester, digest, flows), flows, [])
        if not isinstance(auth, dict):
            raise BadJson("'auth' must be an object")
        session_id = auth.get("session")
        if session_id is None:
            session_id = self._begin(sessions, operation, requester, digest, flows)
        session = sessions.get(session_id) if isinstance(session_id, str) else None
        if session is None or session.expires_ms <= self._clock():
            session_id = self._begin(sessions, operation, requester, digest, flows)
            raise InteractionRequired(session_id, flows, [], Unknown("The session is unknown or has expired"))
        if (session.operation, session.user_nid, session.body_digest) != (operation, user_nid, digest):
            raise Forbidden("The session was begun for another request: send this one without 'auth' first")
        await self._complete(session, session_id, Attempt(auth, requester, address), flows)
        sessions.pop(session_id, None)

    async def _complete(self, session: _Session, session_id: str, attempt: Attempt, flows: Flows) -> None:
        """Take an attempt at a stage, if it is one. Returns if that completes a flow."""
        done = session.completed
        try:
            await self._take(session, attempt, flows)
        except (LimitExceeded, Unavailable, WrongUser):
            raise
        except MatrixError as failed:
            raise InteractionRequired(session_id, flows, done, failed) from failed
        if not any(list(flow) == done for flow in flows):
            raise InteractionRequired(session_id, flows, done)

    async def _take(self, session: _Session, attempt: Attempt, flows: Flows) -> None:
        """Take an attempt at a stage, if it is one. Raises what the stage raises."""
        kind, done = attempt.auth.get("type"), session.completed
        if kind is None or kind in done:
            return
        position = len(done)
        if not any(list(flow[:position]) == done and flow[position:][:1] == (kind,) for flow in flows):
            raise Forbidden("This is not the next stage of any flow")
        await self._stages[kind](attempt)
        if len(done) == position:  # another attempt may have been faster
            done.append(kind)

    async def attempt(self, session_id: str, auth: JsonObject, address: str) -> None:
        """A stage completed on a page of its own; the client goes on with the session. Source: "Fallback".

        Raises Unknown (no such session), Forbidden, and what the stage raises.
        """
        session = self._of_users.get(session_id) or self._of_strangers.get(session_id)
        if session is None or session.expires_ms <= self._clock():
            raise Unknown("The session is unknown or has expired: begin anew in your client")
        await self._take(session, Attempt(auth, session.requester, address), session.flows)

    def answered(self, operation: str, body: JsonObject) -> JsonObject | None:
        """What `keep_answer` kept for the session in the body's `auth`, if anything.

        "Completed stages cannot be retried by clients, therefore servers must return either a 401 response
        with the completed stages, or the result of the API call": the client may not have got the answer.
        """
        session = self._of_strangers.get(_session_id(body))
        if session is None or session.operation != operation or session.expires_ms <= self._clock():
            return None
        return session.answer

    def keep_answer(self, operation: str, body: JsonObject, answer: JsonObject) -> None:
        """Keep the answer of an operation without a requester, to give it again in the same session."""
        session_id = _session_id(body)
        if session_id and session_id not in self._of_strangers:  # `require` has ended it
            now = self._clock()
            session = _Session(operation, None, None, now + self._lifetime_ms, answer=answer)
            self._of_strangers[session_id] = session

    def _begin(
        self,
        sessions: dict[str, _Session],
        operation: str,
        requester: Requester | None,
        digest: bytes | None,
        flows: Flows,
    ) -> str:
        now = self._clock()
        while sessions:  # all live equally long, so the first to come is the first to go
            oldest = next(iter(sessions))
            if len(sessions) < SESSIONS_MAX and sessions[oldest].expires_ms > now:
                break
            del sessions[oldest]
        session_id = secrets.token_urlsafe(18)
        sessions[session_id] = _Session(operation, requester, digest, now + self._lifetime_ms, flows)
        return session_id


def _session_id(body: JsonObject) -> str:
    """The session that a body's `auth` names, or an empty string."""
    auth = body.get("auth")
    session_id = auth.get("session") if isinstance(auth, dict) else None
    return session_id if isinstance(session_id, str) else ""


async def dummy_stage(attempt: Attempt) -> None:
    """`m.login.dummy`: always succeeds."""


def _digest(body: JsonObject) -> bytes:
    """What identifies a request's body, whatever the order of its keys, without `auth`."""
    rest = {key: value for key, value in body.items() if key != "auth"}
    return sha256(orjson.dumps(rest, option=orjson.OPT_SORT_KEYS)).digest()
