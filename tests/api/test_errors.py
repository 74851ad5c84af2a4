"""Standard errors, CORS, methods: Client-Server API, "API Standards"."""

from __future__ import annotations

import pytest

from tests.api.client import Api, User, refused

WHOAMI = "/_matrix/client/v3/account/whoami"


async def test_unknown_endpoints_and_methods(api: Api, alice: User) -> None:
    with refused(404, "M_UNRECOGNIZED"):
        await alice.get("/v3/no/such/endpoint")
    with refused(404, "M_UNRECOGNIZED"):
        await api.get("/_matrix/no-such-api/v1/x")
    with refused(405, "M_UNRECOGNIZED"):
        await alice.delete("/v3/account/whoami")


async def test_old_paths_of_v3_still_work(alice: User) -> None:
    assert (await alice.get("/r0/account/whoami"))["user_id"] == alice.user_id


@pytest.mark.parametrize("body", [b"{", b"\xff", b"{'a': 1}", b'{"a":}', b"NaN"])
async def test_what_is_not_json(api: Api, body: bytes) -> None:
    answer = await api.exchange("POST", "/_matrix/client/v3/login", body=body)
    assert (answer.status, answer.json["errcode"]) == (400, "M_NOT_JSON")


@pytest.mark.parametrize(
    "body", [b"[]", b"1", b'{"type": 5}', b'{"type": "m.login.password", "identifier": 5, "password": []}']
)
async def test_json_of_another_shape(api: Api, body: bytes) -> None:
    answer = await api.exchange("POST", "/_matrix/client/v3/login", body=body)
    assert (answer.status, answer.json["errcode"]) == (400, "M_BAD_JSON")


async def test_nested_and_endless_json(alice: User) -> None:
    deep = b'{"a":' * 5000 + b"1" + b"}" * 5000
    answer = await alice.exchange("POST", "/_matrix/client/v3/createRoom", body=deep)
    assert (answer.status, answer.json["errcode"]) in ((400, "M_BAD_JSON"), (400, "M_NOT_JSON"))


async def test_a_body_over_the_limit(alice: User) -> None:
    body = b'{"name": "' + b"x" * 2_000_000 + b'"}'
    answer = await alice.exchange("POST", "/_matrix/client/v3/createRoom", body=body)
    assert (answer.status, answer.json["errcode"]) == (413, "M_TOO_LARGE")
    assert (await alice.get("/v3/account/whoami"))["user_id"] == alice.user_id


async def test_browsers_may_call_from_anywhere(api: Api) -> None:
    for path in (WHOAMI, "/_matrix/client/versions", "/.well-known/matrix/client", "/_matrix/client/v3/none"):
        answer = await api.exchange("OPTIONS", path, headers={"Origin": "https://client.example"})
        assert answer.status in (200, 204)
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert {"GET", "POST", "PUT", "DELETE", "OPTIONS"} <= {
            method.strip() for method in answer.headers["Access-Control-Allow-Methods"].split(",")
        }
        assert "Authorization" in answer.headers["Access-Control-Allow-Headers"]
        answer = await api.exchange("GET", path)
        assert answer.headers["Access-Control-Allow-Origin"] == "*"


async def test_head_is_get_without_a_body(api: Api) -> None:
    whole = await api.exchange("GET", "/_matrix/client/versions")
    head = await api.exchange("HEAD", "/_matrix/client/versions")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Type"] == whole.headers["Content-Type"]


async def test_wrong_parameters(alice: User) -> None:
    room = await alice.create_room()
    with refused(400, "M_MISSING_PARAM"):
        await alice.get("/v3/rooms/{}/messages", room)
    with refused(400, "M_INVALID_PARAM"):
        await alice.messages(room, limit="many")
    with refused(400, "M_INVALID_PARAM"):
        await alice.messages(room, dir="sideways")
    with refused(400, "M_INVALID_PARAM"):
        await alice.sync("not-a-position")


async def test_what_the_node_says_of_itself(api: Api, alice: User) -> None:
    versions = await api.get("/versions")
    assert "v1.11" in versions["versions"]
    capabilities = (await alice.get("/v3/capabilities"))["capabilities"]
    assert capabilities["m.room_versions"]["default"] == "12"
    assert set(capabilities["m.room_versions"]["available"]) == {str(number) for number in range(1, 13)}
    well_known = await api.get("/.well-known/matrix/client")
    assert well_known["m.homeserver"]["base_url"] == api.url
