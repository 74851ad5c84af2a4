"""What a node answers to servers that want in or out: whom it lets, and what it refuses to sign or accept."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from federation.building import build_event
from federation.canonical import JsonObject
from federation.event import PDU
from federation.keys import SigningKey
from federation.room_versions import ROOM_VERSIONS, room_version
from homeserver.clock import now_ms
from tests.api.client import User
from tests.server_server.conftest import ACME, GLOBEX, Network
from tests.server_server.peer import Answer
from tests.server_server.peer_room import MEMBER
from tests.server_server.room_peer import RoomPeer

SETTINGS = {"federation": {"omit_members_from": 1}}
V1, V2 = "/_matrix/federation/v1", "/_matrix/federation/v2"
EVERY = "?" + "&".join(f"ver={each}" for each in ROOM_VERSIONS)


async def ask(
    network: Network, method: str, target: str, content: JsonObject | None = None, server: str = ACME
) -> Answer:
    return await network.peer.send(server, network.ports[server], method, target, content)


def made(kind: str, room_id: str, user_id: str, query: str = EVERY) -> str:
    return f"{V1}/{kind}/{quote(room_id, safe='')}/{quote(user_id, safe='')}{query}"


def sent(kind: str, room_id: str, event_id: str, version: str = V2) -> str:
    return f"{version}/{kind}/{quote(room_id, safe='')}/{quote(event_id, safe='')}"


def signed(rooms: RoomPeer, template: Any, **changed: Any) -> PDU:
    """The event of a template, with other fields."""
    event = {**template["event"], **changed}
    pdu, _ = build_event(
        version=room_version(template["room_version"]),
        room_id=event["room_id"],
        type=event["type"],
        state_key=event["state_key"],
        sender=event["sender"],
        content=event["content"],
        prev_events=event["prev_events"],
        auth_events=event["auth_events"],
        depth=event["depth"],
        origin_server_ts=now_ms(),
        server_name=rooms.peer.server_name,
        key=event.get("key", rooms.peer.key),
    )
    return pdu


async def test_a_template_is_for_a_room_that_the_user_may_enter(
    network: Network, rooms: RoomPeer, alice: User
) -> None:
    mallory = rooms.user("mallory")
    public_id = await alice.create_room()
    private_id = await alice.create_room(preset="private_chat")
    answer = await ask(network, "GET", made("make_join", public_id, mallory))
    assert answer.json["room_version"] == "12"
    event = answer.json["event"]
    assert (event["sender"], event["state_key"], event["room_id"]) == (mallory, mallory, public_id)
    assert "signatures" not in event and "hashes" not in event
    for target, status, errcode in (
        (made("make_join", private_id, mallory), 403, "M_FORBIDDEN"),
        (made("make_join", public_id, f"@bob:{GLOBEX}"), 403, "M_FORBIDDEN"),
        (made("make_join", public_id, "mallory"), 400, "M_INVALID_PARAM"),
        (made("make_join", "!unknown", mallory), 404, "M_NOT_FOUND"),
        (made("make_join", public_id, mallory, "?ver=1&ver=11"), 400, "M_INCOMPATIBLE_ROOM_VERSION"),
        (made("make_join", public_id, mallory, ""), 400, "M_INCOMPATIBLE_ROOM_VERSION"),
        (made("make_knock", public_id, mallory), 403, "M_FORBIDDEN"),
        (made("make_leave", public_id, mallory, ""), 403, "M_FORBIDDEN"),
    ):
        answer = await ask(network, "GET", target)
        assert (answer.status, answer.errcode) == (status, errcode), target


@pytest.mark.parametrize(
    "changed",
    [
        {"content": {"membership": "leave"}},
        {"content": {"membership": "invite"}},
        {"type": "m.room.topic", "state_key": ""},
        {"sender": f"@bob:{GLOBEX}", "state_key": f"@bob:{GLOBEX}"},
        {"state_key": "@other:peer.test"},
        {"key": SigningKey.generate("p1")},
        {"prev_events": ["$" + "x" * 43]},
        {"room_id": "!" + "x" * 43},
    ],
)
async def test_a_join_that_is_none_is_not_accepted(
    network: Network, rooms: RoomPeer, alice: User, changed: JsonObject
) -> None:
    room_id = await alice.create_room()
    template = (await ask(network, "GET", made("make_join", room_id, rooms.user("mallory")))).json
    join = signed(rooms, template, **changed)
    answer = await ask(network, "PUT", sent("send_join", room_id, join.event_id), join.json)
    assert answer.status in (400, 403), answer.json
    true = signed(rooms, template)
    answer = await ask(network, "PUT", sent("send_join", room_id, "$another"), true.json)
    assert (answer.status, answer.errcode) == (400, "M_INVALID_PARAM")
    answer = await ask(network, "PUT", sent("send_join", room_id, true.event_id), {"type": MEMBER})
    assert (answer.status, answer.errcode) == (400, "M_INVALID_PARAM")
    unhashed = {key: value for key, value in true.json.items() if key != "hashes"}
    answer = await ask(network, "PUT", sent("send_join", room_id, true.event_id), unhashed)
    assert (answer.status, answer.errcode) == (403, "M_FORBIDDEN")  # as a forged one: nothing vouches for it
    assert len((await alice.get("/v3/rooms/{}/joined_members", room_id))["joined"]) == 1


async def test_a_join_is_answered_twice_in_the_same_way(
    network: Network, rooms: RoomPeer, alice: User
) -> None:
    room_id = await alice.create_room()
    template = (await ask(network, "GET", made("make_join", room_id, rooms.user("carl")))).json
    join = signed(rooms, template)
    target = sent("send_join", room_id, join.event_id)
    first, second = [await ask(network, "PUT", target, join.json) for _ in range(2)]
    assert first.status == 200 and first.json == second.json
    [status, old] = (await ask(network, "PUT", sent("send_join", room_id, join.event_id, V1), join.json)).json
    assert (status, old) == (200, first.json)
    types = [event["type"] for event in first.json["state"]]
    assert types.count(MEMBER) == 1 and first.json["members_omitted"] is False
    assert {event["type"] for event in first.json["auth_chain"]} <= set(types)


async def test_members_are_omitted_for_who_wants_it(network: Network, rooms: RoomPeer, alice: User) -> None:
    for name, named in (("dora", True), ("erik", False)):
        room_id = await alice.create_room(**({"name": "Lunch"} if named else {}))
        template = (await ask(network, "GET", made("make_join", room_id, rooms.user(name)))).json
        join = signed(rooms, template)
        target = sent("send_join", room_id, join.event_id) + "?omit_members=true"
        answer = (await ask(network, "PUT", target, join.json)).json
        assert answer["members_omitted"] is True and answer["servers_in_room"] == [ACME]
        members = [event for event in answer["state"] if event["type"] == MEMBER]
        # whom the room is named after, where it has no name
        assert [event["state_key"] for event in members] == ([] if named else [alice.user_id])
        every = [event["type"] for event in (*answer["state"], *answer["auth_chain"])]
        assert every.count(MEMBER) == 1 and every.count("m.room.create") == 1


async def test_who_has_joined_leaves_again(network: Network, rooms: RoomPeer, alice: User) -> None:
    room = await rooms.join(ACME, await alice.create_room(), rooms.user("frida"))
    frida = rooms.user("frida")
    for version in (V1, V2):
        template = (await ask(network, "GET", made("make_leave", room.room_id, frida, ""))).json
        leave = signed(rooms, template)
        target = sent("send_leave", room.room_id, leave.event_id, version)
        answer = await ask(network, "PUT", target, leave.json)
        assert answer.json == ([200, {}] if version == V1 else {})
        seen = await alice.get("/v3/rooms/{}/joined_members", room.room_id)
        assert frida not in seen["joined"]
        room = await rooms.join(ACME, room.room_id, frida)


async def test_a_knock_is_told_what_the_room_is(network: Network, rooms: RoomPeer, alice: User) -> None:
    rule = {"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}}
    room_id = await alice.create_room(preset="private_chat", name="Members", initial_state=[rule])
    template = (await ask(network, "GET", made("make_knock", room_id, rooms.user("gina")))).json
    knock = signed(rooms, template)
    answer = (await ask(network, "PUT", sent("send_knock", room_id, knock.event_id, V1), knock.json)).json
    shown = {event["type"]: event for event in answer["knock_room_state"]}
    assert shown["m.room.name"]["content"] == {"name": "Members"}
    assert shown["m.room.create"]["signatures"]  # "formatted according to the room version specification"
    answer = await ask(network, "GET", made("make_knock", room_id, rooms.user("gina"), "?ver=6"))
    assert answer.errcode == "M_INCOMPATIBLE_ROOM_VERSION"


async def invited(
    network: Network, rooms: RoomPeer, user: User, *, version: str = "12", api: str = V2, **changed: Any
) -> Answer:
    """An invite of the peer's, to a user of the first company, with some of it changed."""
    room = rooms.create(rooms.user("host"), version)
    invite = room.build(rooms.user("host"), MEMBER, {"membership": "invite"}, user.user_id, with_origin=True)
    body = {
        "room_version": version,
        "event": invite.json,
        "invite_room_state": [pdu.json for pdu in room.state.values()],
    } | changed
    if api == V1:
        body = {**invite.json, "unsigned": {"invite_room_state": body["invite_room_state"]}}
    return await ask(network, "PUT", sent("invite", room.room_id, invite.event_id, api), body)


async def test_an_invite_is_signed(network: Network, rooms: RoomPeer, alice: User) -> None:
    answer = await invited(network, rooms, alice)
    assert set(answer.json["event"]["signatures"]) == {"peer.test", ACME}
    assert len((await alice.sync())["rooms"]["invite"]) == 1
    [status, old] = (await invited(network, rooms, alice, version="2", api=V1)).json
    assert status == 200 and set(old["event"]["signatures"]) == {"peer.test", ACME}
    assert len((await alice.sync())["rooms"]["invite"]) == 2


async def test_who_is_not_here_is_invited_only_to_rooms_that_the_server_is_in(
    network: Network, rooms: RoomPeer, alice: User
) -> None:
    nobody = f"@nobody:{ACME}"
    host = rooms.user("host")
    elsewhere = rooms.create(host)
    room_id = await alice.create_room(power_level_content_override={"invite": 0})
    here = await rooms.join(ACME, room_id, host)
    for room, status in ((elsewhere, 403), (here, 200)):
        invite = room.build(host, MEMBER, {"membership": "invite"}, nobody, with_origin=True)
        shown = [pdu.json for pdu in room.state.values()]
        body = {"room_version": "12", "event": invite.json, "invite_room_state": shown}
        answer = await ask(network, "PUT", sent("invite", room.room_id, invite.event_id), body)
        assert answer.status == status, answer.json
    member = await alice.get("/v3/rooms/{}/state/m.room.member/{}", room_id, nobody)
    assert member["membership"] == "invite"


async def test_stripped_state_of_older_servers_is_shown(
    network: Network, rooms: RoomPeer, alice: User
) -> None:
    stripped = [
        {"type": type, "state_key": "", "sender": rooms.user("host"), "content": content}
        for type, content in (("m.room.create", {}), ("m.room.name", {"name": "Old"}))
    ]
    assert (await invited(network, rooms, alice, invite_room_state=[*stripped, 7, {}])).status == 200
    [room] = (await alice.sync())["rooms"]["invite"].values()
    types = [event["type"] for event in room["invite_state"]["events"]]
    assert types == ["m.room.create", "m.room.name", MEMBER]


async def test_what_is_no_invite_is_not_signed(network: Network, rooms: RoomPeer, alice: User) -> None:
    host = rooms.user("host")
    room = rooms.create(host)
    stranger = SigningKey.generate(rooms.peer.key.version)
    for event in (
        room.build(host, MEMBER, {"membership": "ban"}, alice.user_id),
        room.build(host, "m.room.topic", {"topic": "x"}, alice.user_id),
        room.build(host, MEMBER, {"membership": "invite"}, f"@bob:{GLOBEX}"),
        room.build(f"@bob:{GLOBEX}", MEMBER, {"membership": "invite"}, alice.user_id),
    ):
        body = {"room_version": "12", "event": event.json, "invite_room_state": []}
        answer = await ask(network, "PUT", sent("invite", room.room_id, event.event_id), body)
        assert answer.errcode in ("M_INVALID_PARAM", "M_FORBIDDEN"), event
    forged = room.build(host, MEMBER, {"membership": "invite"}, alice.user_id, key=stranger)
    floating = room.build(host, MEMBER, {"membership": "invite"}, alice.user_id).json
    floating["content"] = {**floating["content"], "number": 1.5}
    for json, refusal in ((forged.json, (403, "M_FORBIDDEN")), (floating, (400, "M_BAD_JSON"))):
        body = {"room_version": "12", "event": json, "invite_room_state": []}
        answer = await ask(network, "PUT", sent("invite", room.room_id, forged.event_id), body)
        assert (answer.status, answer.errcode) == refusal
    answer = await invited(network, rooms, alice, room_version="99")
    assert (answer.status, answer.errcode) == (400, "M_INCOMPATIBLE_ROOM_VERSION")
    answer = await invited(network, rooms, alice, invite_room_state=[])
    assert (answer.status, answer.errcode) == (400, "M_MISSING_PARAM")
    other = rooms.create(rooms.user("stranger"))
    false = [pdu.json for pdu in other.state.values()]  # the create event of another room
    answer = await invited(network, rooms, alice, invite_room_state=false)
    assert (answer.status, answer.errcode) == (400, "M_MISSING_PARAM")
    assert "invite" not in (await alice.sync()).get("rooms", {})


async def test_an_invite_is_taken_back_only_by_who_sent_it(
    network: Network, rooms: RoomPeer, alice: User
) -> None:
    room = rooms.create(rooms.user("host"))
    invite = room.make(rooms.user("host"), MEMBER, {"membership": "invite"}, alice.user_id, with_origin=True)
    state = [pdu.json for pdu in room.state.values() if pdu.type != MEMBER]
    body = {"room_version": "12", "event": invite.json, "invite_room_state": state}
    await ask(network, "PUT", sent("invite", room.room_id, invite.event_id), body)
    stranger = SigningKey.generate(rooms.peer.key.version)
    forged = room.build(rooms.user("host"), MEMBER, {"membership": "leave"}, alice.user_id, key=stranger)
    await rooms.transmit(ACME, forged)
    assert room.room_id in (await alice.sync())["rooms"]["invite"]
    ended = room.build(rooms.user("host"), MEMBER, {"membership": "leave"}, alice.user_id)
    answer = await rooms.transmit(ACME, ended)
    assert answer.json["pdus"] == {ended.event_id: {}}
    assert "invite" not in (await alice.sync()).get("rooms", {})
