"""User-interactive authentication: what a session is good for, and what it is not."""

from __future__ import annotations

import pytest

from homeserver.accounts import user_interactive
from homeserver.accounts.user_interactive import InteractionRequired, UserInteractive, dummy_stage
from homeserver.errors import BadJson, Forbidden
from tests.accounts.server import AccountServices, Clock
from tests.api.client import PASSWORD, Api, Refused, User, refused

FLOWS = (("m.first", "m.second"), ("m.second",))
OPERATION = "POST /something"


def interactive(clock: Clock) -> UserInteractive:
    return UserInteractive({"m.first": dummy_stage, "m.second": dummy_stage}, 1000, clock)


async def attempt(
    service: UserInteractive, auth: object, *, operation: str = OPERATION, body: str = "same"
) -> InteractionRequired | None:
    """The demand for more, or None if that was all."""
    try:
        await service.require(operation, {"body": body, "auth": auth}, FLOWS, None, "127.0.0.1")
    except InteractionRequired as required:
        return required
    return None


async def begin(service: UserInteractive) -> str:
    required = await attempt(service, None)
    assert required is not None
    session: str = required.body()["session"]
    return session


async def test_stages_are_completed_in_order_and_listed() -> None:
    service = interactive(Clock())
    session = await begin(service)
    first = await attempt(service, {"type": "m.first", "session": session})
    assert first is not None
    assert first.status == 401
    assert first.body()["completed"] == ["m.first"]
    assert first.body()["flows"] == [{"stages": ["m.first", "m.second"]}, {"stages": ["m.second"]}]
    again = await attempt(service, {"type": "m.first", "session": session})
    assert again is not None
    assert again.body()["completed"] == ["m.first"]
    only_session = await attempt(service, {"session": session})
    assert only_session is not None
    assert await attempt(service, {"type": "m.second", "session": session}) is None


async def test_a_stage_out_of_order_fails_and_can_be_retried() -> None:
    service = interactive(Clock())
    session = await begin(service)
    wrong = await attempt(service, {"type": "m.third", "session": session})
    assert wrong is not None
    assert wrong.body()["errcode"] == "M_FORBIDDEN"
    assert wrong.body()["completed"] == []
    assert await attempt(service, {"type": "m.second", "session": session}) is None


async def test_a_session_is_good_for_one_operation_and_body() -> None:
    service = interactive(Clock())
    session = await begin(service)
    with pytest.raises(Forbidden):
        await attempt(service, {"type": "m.second", "session": session}, operation="POST /else")
    with pytest.raises(Forbidden):
        await attempt(service, {"type": "m.second", "session": session}, body="other")
    assert await attempt(service, {"type": "m.second", "session": session}) is None
    used = await attempt(service, {"type": "m.second", "session": session})
    assert used is not None
    assert used.body()["session"] != session


async def test_sessions_end_after_a_while() -> None:
    clock = Clock()
    service = interactive(clock)
    session = await begin(service)
    clock.ms += 1001
    late = await attempt(service, {"type": "m.second", "session": session})
    assert late is not None
    assert late.body()["session"] != session
    assert await attempt(service, {"type": "m.second", "session": late.body()["session"]}) is None


async def test_sessions_are_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_interactive, "SESSIONS_MAX", 3)
    service = interactive(Clock())
    sessions = [await begin(service) for _ in range(4)]
    assert await attempt(service, {"type": "m.second", "session": sessions[0]}) is not None
    assert await attempt(service, {"type": "m.second", "session": sessions[3]}) is None


@pytest.mark.parametrize("auth", [[], "m.second", 3, True])
async def test_auth_must_be_an_object(auth: object) -> None:
    with pytest.raises(BadJson):
        await attempt(interactive(Clock()), auth)


@pytest.mark.parametrize("auth", [{"type": []}, {"type": {}}, {"session": []}, {"session": 1}, {}])
async def test_garbage_completes_nothing(auth: object) -> None:
    assert await attempt(interactive(Clock()), auth) is not None


def by_password(user: User, **more: object) -> dict[str, object]:
    identifier = {"type": "m.id.user", "user": user.user_id}
    return {"type": "m.login.password", "identifier": identifier, "password": PASSWORD, **more}


async def test_another_users_password_does_not_count(api: Api) -> None:
    alice, bob = await api.register("alice"), await api.register("bob")
    with refused(403, "M_FORBIDDEN"):
        await alice.post("/v3/delete_devices", json={"devices": ["X"], "auth": by_password(bob)})


async def test_another_users_session_does_not_count(api: Api) -> None:
    alice, bob = await api.register("alice"), await api.register("bob")
    with pytest.raises(Refused) as asked:
        await alice.post("/v3/delete_devices", json={"devices": ["X"]})
    auth = by_password(bob, session=asked.value.json["session"])
    with refused(403, "M_FORBIDDEN"):
        await bob.post("/v3/delete_devices", json={"devices": ["X"], "auth": auth})


async def test_wrong_passwords_count_as_failed_logins(api: Api, services: AccountServices) -> None:
    user = await api.register()
    services.rate_limits.enabled = True
    wrong = {"devices": ["X"], "auth": by_password(user, password="wrong password")}
    for _ in range(6):
        with refused(401, "M_FORBIDDEN"):
            await user.post("/v3/delete_devices", json=wrong)
    with refused(429, "M_LIMIT_EXCEEDED") as limited:
        await user.post("/v3/delete_devices", json={"devices": ["X"], "auth": by_password(user)})
    assert int(limited.value.headers["Retry-After"]) == -(-limited.value.json["retry_after_ms"] // 1000)
