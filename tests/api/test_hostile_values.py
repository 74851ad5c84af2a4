"""Values that no honest client sends: each is refused or stored, none makes the node fail.

That none does is also held by the node's log, which has no traceback at the end.
"""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.api.client import User, path_of
from tests.api.device_crypto import DeviceCrypto, Identity, device_keys_of

NUL = "\u0000"
BEYOND_INT8 = 2**64 - 1
DEEP: Any = []
for _ in range(90):
    DEEP = [DEEP]

VALUES: list[Any] = [
    NUL,
    f"@a{NUL}:veche.test",
    f"!a{NUL}",
    f"#a{NUL}:veche.test",
    f"$a{NUL}",
    "x" * 60_000,
    "",
]
VALUES += [BEYOND_INT8, -(2**63), 1e300, True, None, DEEP, {"": {NUL: NUL}}, ["\ud7ff", NUL]]

COMPLETE: dict[str, Any] = {"actions": [], "membership": "join", "typing": True, "reason": "because"}

DEHYDRATED = "/unstable/org.matrix.msc3814.v1/dehydrated_device"

# Method, path with `{room}`, `{user}` and `{event}` to be filled in, and the keys of the body to vary
REQUESTS = [
    ("POST", "/v3/createRoom", ("name", "topic", "room_alias_name", "room_version", "visibility", "preset")),
    (
        "POST",
        "/v3/createRoom",
        ("invite", "creation_content", "initial_state", "power_level_content_override"),
    ),
    ("POST", "/v3/rooms/{room}/invite", ("user_id", "reason")),
    ("POST", "/v3/rooms/{room}/kick", ("user_id", "reason")),
    ("POST", "/v3/rooms/{room}/ban", ("user_id", "reason")),
    ("POST", "/v3/rooms/{room}/unban", ("user_id",)),
    ("POST", "/v3/rooms/{room}/join", ("reason", "third_party_signed")),
    ("POST", "/v3/rooms/{room}/upgrade", ("new_version", "additional_creators")),
    ("PUT", "/v3/rooms/{room}/send/m.room.message/{number}", ("body", "m.relates_to", "m.mentions")),
    ("PUT", "/v3/rooms/{room}/send/m.room.redaction/{number}", ("redacts", "reason")),
    ("PUT", "/v3/rooms/{room}/redact/{event}/{number}", ("reason",)),
    ("PUT", "/v3/rooms/{room}/state/m.room.name", ("name",)),
    ("PUT", "/v3/rooms/{room}/state/m.room.topic", ("topic",)),
    ("PUT", "/v3/rooms/{room}/state/m.room.avatar", ("url",)),
    ("PUT", "/v3/rooms/{room}/state/m.room.canonical_alias", ("alias", "alt_aliases")),
    ("PUT", "/v3/rooms/{room}/state/m.room.join_rules", ("join_rule", "allow")),
    ("PUT", "/v3/rooms/{room}/state/m.room.guest_access", ("guest_access",)),
    ("PUT", "/v3/rooms/{room}/state/m.room.history_visibility", ("history_visibility",)),
    ("PUT", "/v3/rooms/{room}/state/m.room.encryption", ("algorithm",)),
    ("PUT", "/v3/rooms/{room}/state/m.space.child/!child", ("via", "order", "suggested")),
    ("PUT", "/v3/rooms/{room}/state/m.room.member/{user}", ("membership", "displayname", "avatar_url")),
    ("PUT", "/v3/rooms/{room}/state/m.room.tombstone", ("replacement_room", "body")),
    ("PUT", "/v3/rooms/{room}/typing/{user}", ("typing", "timeout")),
    ("POST", "/v3/rooms/{room}/receipt/m.read/{event}", ("thread_id",)),
    ("POST", "/v3/rooms/{room}/read_markers", ("m.read", "m.fully_read", "m.read.private")),
    ("POST", "/v3/rooms/{room}/report/{event}", ("reason",)),
    ("PUT", "/v3/user/{user}/account_data/m.ignored_user_list", ("ignored_users",)),
    ("PUT", "/v3/user/{user}/account_data/m.invite_permission_config", ("default_action",)),
    ("PUT", "/v3/user/{user}/account_data/m.direct", ("@a:veche.test",)),
    ("PUT", "/v3/user/{user}/rooms/{room}/tags/u.tag", ("order",)),
    ("POST", "/v3/user/{user}/filter", ("room", "presence", "event_fields", "account_data", "event_format")),
    ("PUT", "/v3/pushrules/global/override/rule", ("conditions", "actions")),
    ("PUT", "/v3/pushrules/global/content/rule", ("pattern", "actions")),
    ("PUT", "/v3/presence/{user}/status", ("presence", "status_msg")),
    ("PUT", "/v3/profile/{user}/displayname", ("displayname",)),
    ("PUT", "/v3/profile/{user}/avatar_url", ("avatar_url",)),
    ("PUT", "/v3/profile/{user}/com.example.field", ("com.example.field",)),
    ("POST", "/v3/user_directory/search", ("search_term", "limit")),
    ("POST", "/v3/publicRooms", ("limit", "since", "filter", "third_party_instance_id")),
    ("PUT", "/v3/directory/room/%23alias:veche.test", ("room_id",)),
    ("PUT", "/v3/directory/list/room/{room}", ("visibility",)),
    ("PUT", "/v3/devices/D", ("display_name",)),
    ("POST", "/v3/delete_devices", ("devices", "auth")),
    ("POST", "/v3/keys/upload", ("device_keys", "one_time_keys", "fallback_keys")),
    ("POST", "/v3/keys/query", ("device_keys", "timeout", "@a:veche.test")),
    ("POST", "/v3/keys/claim", ("one_time_keys", "timeout")),
    (
        "POST",
        "/v3/keys/device_signing/upload",
        ("master_key", "self_signing_key", "user_signing_key", "auth"),
    ),
    ("POST", "/v3/keys/signatures/upload", ("@a:veche.test",)),
    ("PUT", "/v3/sendToDevice/m.test/{number}", ("messages",)),
    ("PUT", DEHYDRATED, ("device_id", "device_data", "device_keys", "one_time_keys", "fallback_keys")),
    ("POST", f"{DEHYDRATED}/X/events", ("next_batch",)),
    ("POST", "/v3/login", ("type", "identifier", "user", "password", "token", "device_id")),
    ("POST", "/v3/register", ("username", "password", "auth", "device_id", "guest_access_token")),
    ("POST", "/v3/refresh", ("refresh_token",)),
    ("POST", "/v3/account/password", ("new_password", "auth", "logout_devices")),
    ("POST", "/v3/account/deactivate", ("auth", "erase")),
]


@pytest.mark.parametrize(("method", "path", "keys"), REQUESTS)
async def test_strange_values(alice: User, bob: User, method: str, path: str, keys: tuple[str, ...]) -> None:
    room_id = await alice.create_room()
    event_id = await alice.send(room_id, "hello")
    numbers = iter(range(10_000))
    for key in keys:
        for value in VALUES:
            template = path.replace("{room}", "{0}").replace("{user}", "{1}").replace("{event}", "{2}")
            filled = path_of(
                template.replace("{number}", f"n{next(numbers)}"), (room_id, alice.user_id, event_id)
            )
            body = {
                "actions": [],
                "user_id": bob.user_id,
                "membership": "join",
                "typing": True,
                "reason": "r",
            }
            if "createRoom" in path:
                body = {}
            body[key] = value
            answer = await alice.exchange(method, filled, body=orjson.dumps(body))
            assert answer.status < 500, (key, value, answer.body)
    sync = await alice.get("/v3/sync", query={"timeout": 0})
    assert "next_batch" in sync


async def test_strange_keys(alice: User, bob: User) -> None:
    """Of devices and users, at every place where a value of the right form may hold one of the wrong."""
    device, identity = DeviceCrypto(alice), Identity(alice.user_id)
    await device.upload(one_time_keys=device.one_time_keys(1))
    await alice.post("/v3/keys/device_signing/upload", json=identity.keys())
    known = device.device_keys()
    master = identity.keys()["master_key"]
    other = Identity(bob.user_id).keys()
    for number, value in enumerate(VALUES):
        name = value if isinstance(value, str) else str(value)
        bodies: list[tuple[str, Any]] = [
            ("query", {"device_keys": {alice.user_id: [value]}}),
            ("query", {"device_keys": {name: []}}),
            ("claim", {"one_time_keys": {alice.user_id: {name: "signed_curve25519"}}}),
            ("claim", {"one_time_keys": {alice.user_id: {alice.device_id: value}}}),
            ("claim", {"one_time_keys": {name: {"D": "a"}}}),
            ("upload", {"one_time_keys": {name: "key"}}),
            ("upload", {"one_time_keys": {f"a:{number}": value}}),
            ("upload", {"one_time_keys": {f"b:{number}": {"key": value, "signatures": value}}}),
            ("upload", {"fallback_keys": {"c:d": {"key": "k", "signatures": {name: {name: value}}}}}),
            *(("upload", {"device_keys": known | {field: value}}) for field in (*known, "other")),
            ("upload", {"device_keys": known | {"keys": {name: value}}}),
            *(("device_signing/upload", {"master_key": master | {field: value}}) for field in master),
            ("device_signing/upload", {"master_key": master | {"keys": {name: value}}}),
            ("device_signing/upload", {"self_signing_key": other["self_signing_key"] | {"usage": value}}),
            ("signatures/upload", {alice.user_id: {alice.device_id: known | {"signatures": value}}}),
            ("signatures/upload", {alice.user_id: {name: known}}),
            ("signatures/upload", {name: {name: {"signatures": {name: {name: value}}}}}),
            ("signatures/upload", {bob.user_id: {name: {"user_id": value}}}),
        ]
        for path, body in bodies:
            answer = await alice.exchange("POST", f"/_matrix/client/v3/keys/{path}", body=orjson.dumps(body))
            assert answer.status < 500, (path, body, answer.body)
        messages = {"messages": {bob.user_id: {bob.device_id: {name: value}}, name: {name: {}}}}
        target = f"/_matrix/client/v3/sendToDevice/m.test/{number}"
        answer = await alice.exchange("PUT", target, body=orjson.dumps(messages))
        assert answer.status < 500, (messages, answer.body)
    assert "next_batch" in await bob.sync()
    assert alice.user_id in (await device_keys_of(bob, alice.user_id))["device_keys"]


@pytest.mark.parametrize("value", ["%00", "%ff", "%ed%a0%80", "9" * 30, "-1", "x" * 5000, "%F0%9F%92%A9"])
async def test_strange_parameters(alice: User, value: str) -> None:
    room_id = await alice.create_room()
    v1, v3 = "/_matrix/client/v1", "/_matrix/client/v3"
    rooms, rooms_v1 = f"{v3}/rooms/{room_id}", f"{v1}/rooms/{room_id}"
    for path in (
        f"{rooms}/messages?dir=b&from={value}",
        f"{rooms}/messages?dir=b&limit={value}",
        f"{rooms}/messages?dir=b&filter={value}",
        f"{rooms}/context/{value}",
        f"{rooms}/event/{value}",
        f"{rooms}/members?at={value}",
        f"{rooms}/state/{value}/{value}",
        f"{v3}/sync?since={value}",
        f"{v3}/sync?filter={value}",
        f"{v3}/sync?since=s{value}_{value}",
        f"{rooms_v1}/relations/{value}/{value}/{value}",
        f"{rooms_v1}/threads?from={value}",
        f"{v3}/notifications?from={value}",
        f"{rooms_v1}/hierarchy?from={value}",
        f"{v3}/profile/{value}",
        f"{rooms_v1}/timestamp_to_event?dir=f&ts={value}",
        f"{v1}/mutual_rooms?user_id={value}",
        f"{v3}/publicRooms?since={value}",
        f"{v3}/directory/room/{value}",
        f"{v1}/room_summary/{value}",
        f"{v3}/presence/{value}/status",
        f"{v3}/register/available?username={value}",
        f"{v3}/user/{alice.user_id}/filter/{value}",
        f"{v3}/events?from={value}",
        f"{v3}/admin/whois/{value}",
        f"{v3}/devices/{value}",
    ):
        answer = await alice.exchange("GET", path)
        assert answer.status < 500, (path, answer.body)
