"""Registration, login, devices, tokens, passwords: Client-Server API, "Client Authentication"."""

from __future__ import annotations

import pytest

from tests.api.client import PASSWORD, Api, Refused, User, refused

SETTINGS = {"registration": {"tokens": ["let-me-in"]}}

pytestmark = pytest.mark.usefixtures("node")


def password_auth(user: User, password: str = PASSWORD, session: str | None = None) -> dict[str, object]:
    identifier = {"type": "m.id.user", "user": user.user_id}
    auth: dict[str, object] = {"type": "m.login.password", "identifier": identifier, "password": password}
    return auth if session is None else {**auth, "session": session}


async def challenge(user: Api, template: str, *segments: str, method: str = "POST", **json: object) -> str:
    """Ask without authentication data: the session of User-Interactive Authentication, from its 401."""
    with pytest.raises(Refused) as caught:
        await user.call(method, template, *segments, json=json)
    assert caught.value.status == 401
    assert caught.value.json["flows"]
    session: str = caught.value.json["session"]
    return session


class TestRegistration:
    async def test_it_takes_the_dummy_stage_and_logs_in(self, api: Api) -> None:
        session = await challenge(api, "/v3/register", username="new-user", password=PASSWORD)
        answer = await api.post(
            "/v3/register",
            json={
                "username": "new-user",
                "password": PASSWORD,
                "device_id": "LAPTOP",
                "initial_device_display_name": "Laptop",
                "auth": {"type": "m.login.dummy", "session": session},
            },
        )
        assert answer["user_id"] == f"@new-user:{api.server_name}"
        assert answer["device_id"] == "LAPTOP"
        whoami = await api.with_token(answer["access_token"]).get("/v3/account/whoami")
        assert whoami == {"user_id": answer["user_id"], "device_id": "LAPTOP", "is_guest": False}

    async def test_whoever_missed_the_answer_gets_it_again_in_the_same_session(self, api: Api) -> None:
        session = await challenge(api, "/v3/register", password=PASSWORD)
        body = {"password": PASSWORD, "auth": {"type": "m.login.dummy", "session": session}}
        answer = await api.post("/v3/register", json=body)
        assert await api.post("/v3/register", json=body) == answer
        other = await api.post("/v3/register", json={**body, "auth": {"type": "m.login.dummy"}})
        assert other["user_id"] != answer["user_id"]

    async def test_it_can_leave_the_login_to_later(self, api: Api) -> None:
        answer = await api.post(
            "/v3/register",
            json={
                "username": "not-yet-in",
                "password": PASSWORD,
                "inhibit_login": True,
                "auth": {"type": "m.login.dummy"},
            },
        )
        assert answer == {"user_id": f"@not-yet-in:{api.server_name}"}
        await api.login(answer["user_id"])

    async def test_a_name_is_given_once(self, api: Api, alice: User) -> None:
        assert await api.get("/v3/register/available", query={"username": "nobody-has-it"}) == {
            "available": True
        }
        with refused(400, "M_USER_IN_USE"):
            await api.get("/v3/register/available", query={"username": alice.localpart})
        with refused(400, "M_USER_IN_USE"):
            await api.post(
                "/v3/register",
                json={"username": alice.localpart, "password": PASSWORD, "auth": {"type": "m.login.dummy"}},
            )

    @pytest.mark.parametrize("username", ["with space", "émile", "a:b", "@a", "", "x" * 300])
    async def test_names_follow_the_grammar(self, api: Api, username: str) -> None:
        with refused(400, "M_INVALID_USERNAME"):
            await api.get("/v3/register/available", query={"username": username})

    async def test_a_name_is_made_up_for_who_gives_none(self, api: Api) -> None:
        json = {"password": PASSWORD, "auth": {"type": "m.login.dummy"}}
        first, second = [await api.post("/v3/register", json=json) for _ in range(2)]
        assert first["user_id"] != second["user_id"]

    async def test_a_weak_password_is_refused(self, api: Api) -> None:
        with refused(400, "M_WEAK_PASSWORD"):
            await api.post(
                "/v3/register",
                json={"username": "weak", "password": "short", "auth": {"type": "m.login.dummy"}},
            )

    async def test_registration_tokens_can_be_looked_at(self, api: Api) -> None:
        path = "/v1/register/m.login.registration_token/validity"
        assert await api.get(path, query={"token": "let-me-in"}) == {"valid": True}
        assert await api.get(path, query={"token": "another"}) == {"valid": False}

    async def test_guests_may_look_but_not_write(self, api: Api) -> None:
        guest = await api.register_guest()
        assert (await guest.get("/v3/account/whoami"))["is_guest"] is True
        with refused(403, "M_GUEST_ACCESS_FORBIDDEN"):
            await guest.post("/v3/createRoom")


class TestLogin:
    async def test_the_flows_are_told(self, api: Api) -> None:
        flows = (await api.get("/v3/login"))["flows"]
        assert "m.login.password" in {flow["type"] for flow in flows}

    async def test_with_a_password(self, api: Api, alice: User) -> None:
        again = await api.login(alice.localpart, device_id="PHONE", initial_device_display_name="Phone")
        assert (again.user_id, again.device_id) == (alice.user_id, "PHONE")
        devices = (await alice.get("/v3/devices"))["devices"]
        assert {device["device_id"] for device in devices} == {alice.device_id, "PHONE"}

    async def test_with_a_wrong_password_or_for_nobody(self, api: Api, alice: User) -> None:
        with refused(403, "M_FORBIDDEN"):
            await api.login(alice.user_id, "not the password")
        with refused(403, "M_FORBIDDEN"):
            await api.login(f"@nobody-at-all:{api.server_name}")

    async def test_an_unknown_kind_of_login(self, api: Api) -> None:
        with refused(400, "M_UNKNOWN"):
            await api.post("/v3/login", json={"type": "m.login.telepathy"})

    async def test_a_device_that_logs_in_again_keeps_one_token(self, api: Api, alice: User) -> None:
        again = await api.login(alice.user_id, device_id=alice.device_id)
        with refused(401, "M_UNKNOWN_TOKEN"):
            await alice.get("/v3/account/whoami")
        assert (await again.get("/v3/account/whoami"))["device_id"] == alice.device_id

    async def test_a_token_logs_another_device_in_once(self, api: Api, alice: User) -> None:
        session = await challenge(alice, "/v1/login/get_token")
        granted = await alice.post(
            "/v1/login/get_token", json={"auth": password_auth(alice, session=session)}
        )
        assert granted["expires_in_ms"] > 0
        json = {"type": "m.login.token", "token": granted["login_token"]}
        answer = await api.post("/v3/login", json=json)
        assert answer["user_id"] == alice.user_id
        assert answer["device_id"] != alice.device_id
        with refused(403, "M_FORBIDDEN"):
            await api.post("/v3/login", json=json)


class TestTokens:
    async def test_a_request_needs_one(self, api: Api) -> None:
        with refused(401, "M_MISSING_TOKEN"):
            await api.get("/v3/account/whoami")
        with refused(401, "M_UNKNOWN_TOKEN"):
            await api.with_token("made-up").get("/v3/account/whoami")

    async def test_it_may_stand_in_the_query(self, api: Api, alice: User) -> None:
        whoami = await api.get("/v3/account/whoami", query={"access_token": alice.token})
        assert whoami["user_id"] == alice.user_id

    async def test_logout_ends_this_device(self, alice: User) -> None:
        other = await alice.on_new_device()
        await alice.post("/v3/logout")
        with refused(401, "M_UNKNOWN_TOKEN"):
            await alice.get("/v3/account/whoami")
        assert len((await other.get("/v3/devices"))["devices"]) == 1

    async def test_logout_of_all_ends_every_device(self, alice: User) -> None:
        other = await alice.on_new_device()
        await alice.post("/v3/logout/all")
        for device in (alice, other):
            with refused(401, "M_UNKNOWN_TOKEN"):
                await device.get("/v3/account/whoami")

    async def test_refresh_replaces_both_tokens(self, api: Api, alice: User) -> None:
        identifier = {"type": "m.id.user", "user": alice.user_id}
        json = {
            "type": "m.login.password",
            "identifier": identifier,
            "password": PASSWORD,
            "refresh_token": True,
        }
        first = await api.post("/v3/login", json=json)
        assert first["expires_in_ms"] > 0
        second = await api.post("/v3/refresh", json={"refresh_token": first["refresh_token"]})
        assert second["access_token"] != first["access_token"]
        device = api.with_token(second["access_token"])
        assert (await device.get("/v3/account/whoami"))["device_id"] == first["device_id"]
        with refused(401, "M_UNKNOWN_TOKEN"):  # used up, now that its successor was
            await api.post("/v3/refresh", json={"refresh_token": first["refresh_token"]})
        with refused(401, "M_UNKNOWN_TOKEN"):
            await api.post("/v3/refresh", json={"refresh_token": "made-up"})

    async def test_an_openid_token_is_given_to_oneself_only(self, alice: User, bob: User) -> None:
        path = "/v3/user/{}/openid/request_token"
        answer = await alice.post(path, alice.user_id)
        assert (answer["token_type"], answer["matrix_server_name"]) == ("Bearer", alice.server_name)
        with refused(403, "M_FORBIDDEN"):
            await alice.post(path, bob.user_id)


class TestDevices:
    async def test_they_are_listed_and_renamed(self, alice: User) -> None:
        await alice.put("/v3/devices/{}", alice.device_id, json={"display_name": "Desk"})
        device = await alice.get("/v3/devices/{}", alice.device_id)
        assert (device["device_id"], device["display_name"]) == (alice.device_id, "Desk")
        assert [each["device_id"] for each in (await alice.get("/v3/devices"))["devices"]] == [
            alice.device_id
        ]
        with refused(404, "M_NOT_FOUND"):
            await alice.get("/v3/devices/{}", "UNKNOWN")
        with refused(404, "M_NOT_FOUND"):
            await alice.put("/v3/devices/{}", "UNKNOWN", json={"display_name": "x"})

    async def test_deleting_one_asks_for_the_password(self, alice: User, bob: User) -> None:
        other = await alice.on_new_device()
        session = await challenge(alice, "/v3/devices/{}", other.device_id, method="DELETE")
        with refused(401, "M_FORBIDDEN"):
            auth = password_auth(alice, "wrong", session)
            await alice.call("DELETE", "/v3/devices/{}", other.device_id, json={"auth": auth})
        auth = password_auth(alice, session=session)
        await alice.call("DELETE", "/v3/devices/{}", other.device_id, json={"auth": auth})
        with refused(401, "M_UNKNOWN_TOKEN"):
            await other.get("/v3/account/whoami")

    async def test_several_are_deleted_at_once(self, alice: User) -> None:
        others = [await alice.on_new_device() for _ in range(2)]
        devices = [other.device_id for other in others]
        session = await challenge(alice, "/v3/delete_devices", devices=devices)
        auth = password_auth(alice, session=session)
        await alice.post("/v3/delete_devices", json={"devices": devices, "auth": auth})
        assert [each["device_id"] for each in (await alice.get("/v3/devices"))["devices"]] == [
            alice.device_id
        ]


class TestPassword:
    async def test_changing_it_ends_other_devices(self, api: Api, alice: User) -> None:
        other = await alice.on_new_device()
        json = {"new_password": "another good password"}
        session = await challenge(alice, "/v3/account/password", **json)
        await alice.post("/v3/account/password", json={**json, "auth": password_auth(alice, session=session)})
        with refused(403, "M_FORBIDDEN"):
            await api.login(alice.user_id)
        await api.login(alice.user_id, json["new_password"])
        assert (await alice.get("/v3/account/whoami"))["user_id"] == alice.user_id
        with refused(401, "M_UNKNOWN_TOKEN"):
            await other.get("/v3/account/whoami")


class TestDeactivation:
    async def test_it_leaves_rooms_and_bars_the_name(self, api: Api, alice: User, bob: User) -> None:
        room = await bob.create_room()
        await alice.join(room)
        session = await challenge(alice, "/v3/account/deactivate")
        answer = await alice.post(
            "/v3/account/deactivate", json={"auth": password_auth(alice, session=session)}
        )
        assert answer["id_server_unbind_result"] in ("success", "no-support")
        with refused(401, "M_UNKNOWN_TOKEN"):
            await alice.get("/v3/account/whoami")
        with refused(403, "M_USER_DEACTIVATED"):
            await api.login(alice.user_id)
        with refused(400, "M_USER_IN_USE"):
            await api.get("/v3/register/available", query={"username": alice.localpart})
        assert alice.user_id not in (await bob.get("/v3/rooms/{}/joined_members", room))["joined"]


class TestModeration:
    async def test_only_administrators_see_who_somebody_is(self, admin: User, alice: User, bob: User) -> None:
        assert (await admin.get("/v3/admin/whois/{}", alice.user_id))["user_id"] == alice.user_id
        assert alice.device_id in (await alice.get("/v3/admin/whois/{}", alice.user_id))["devices"]
        with refused(403, "M_FORBIDDEN"):
            await bob.get("/v3/admin/whois/{}", alice.user_id)

    async def test_a_locked_account_can_only_log_out(self, admin: User, alice: User, bob: User) -> None:
        with refused(403, "M_FORBIDDEN"):
            await bob.put("/v1/admin/lock/{}", alice.user_id, json={"locked": True})
        assert await admin.put("/v1/admin/lock/{}", alice.user_id, json={"locked": True}) == {"locked": True}
        assert await admin.get("/v1/admin/lock/{}", alice.user_id) == {"locked": True}
        with refused(401, "M_USER_LOCKED") as caught:
            await alice.sync()
        assert caught.value.json["soft_logout"] is True
        await admin.put("/v1/admin/lock/{}", alice.user_id, json={"locked": False})
        await alice.sync()

    async def test_a_suspended_account_can_read_and_leave(self, admin: User, alice: User, bob: User) -> None:
        room = await bob.create_room()
        await alice.join(room)
        path = "/v1/admin/suspend/{}"
        assert await admin.put(path, alice.user_id, json={"suspended": True}) == {"suspended": True}
        assert await admin.get(path, alice.user_id) == {"suspended": True}
        with refused(403, "M_USER_SUSPENDED"):
            await alice.send(room, "hello")
        with refused(403, "M_USER_SUSPENDED"):
            await alice.create_room()
        assert (await alice.messages(room))["chunk"]
        await alice.leave(room)
        await admin.put(path, alice.user_id, json={"suspended": False})
        await alice.create_room()

    async def test_nobody_else_can_be_found(self, admin: User, api: Api) -> None:
        with refused(404, "M_NOT_FOUND"):
            await admin.get("/v1/admin/lock/{}", f"@nobody-at-all:{api.server_name}")


async def test_third_party_identifiers_are_none(alice: User) -> None:
    assert await alice.get("/v3/account/3pid") == {"threepids": []}
