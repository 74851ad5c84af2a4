"""What is stored for other servers, and with what: each event once, for those that are in its room."""

from __future__ import annotations

from federation.event import PDU
from homeserver.commit_log.outbound import OutboundEdu
from homeserver.rooms.draft import Draft
from tests.rooms.servers import Server

STORED = """
SELECT o.position, coalesce(e.event_id, convert_from(o.edu, 'UTF8')) AS what, ARRAY(
    SELECT d.server_name FROM destinations d WHERE d.nid = ANY(o.destinations) ORDER BY 1) AS servers
FROM federation_outbox o LEFT JOIN events e ON e.nid = o.event_nid
WHERE o.position > $1 ORDER BY o.position"""
MEMBER = "m.room.member"


async def stored(server: Server, since: int) -> list[tuple[str, list[str]]]:
    """What came into the outbox after a position: event ids or EDUs, and their destinations."""
    rows = await server.database.pool.fetch(STORED, since)
    return [(row["what"], row["servers"]) for row in rows]


async def join(here: Server, from_server: Server, room_id: str, *, relay: bool = False) -> PDU:
    """A join through `here`, as its resident server takes it in."""
    room = await here.rooms.get(room_id)
    user_id = from_server.user("bob")
    newest = [await here.pdu(event.event_id, room_id) for event in room.extremities]
    content = {"membership": "join"}
    auth = await here.auth_for(room_id, user_id, MEMBER, content, user_id)
    pdu = from_server.build(
        room.version, room_id, user_id, MEMBER, content, prev=newest, auth=auth, state_key=user_id
    )
    relay_for = from_server.name if relay else None
    [result] = await here.receiving.receive(room_id, [pdu], relay_for=relay_for)
    assert result.outcome.value == "accepted", result
    return pdu


async def test_events_of_a_room_of_our_own_users_are_not_stored(here: Server) -> None:
    since = here.log.position
    room = await here.create_room(here.user("alice"), "12")
    await here.say(room.room_id, here.user("alice"))
    assert room.servers == {"here.test": 1}
    assert await stored(here, since) == []


async def test_our_events_are_stored_for_the_other_servers_in_the_room(here: Server, there: Server) -> None:
    room = await here.create_room(here.user("alice"), "12")
    await join(here, there, room.room_id)
    assert room.servers == {"here.test": 1, "there.test": 1}
    since = here.log.position
    first = await here.say(room.room_id, here.user("alice"))
    second = await here.say(room.room_id, here.user("alice"))
    expected = [(first.event_id, ["there.test"]), (second.event_id, ["there.test"])]
    assert await stored(here, since) == expected


async def test_events_of_others_are_not_sent_on(here: Server, there: Server, third: Server) -> None:
    room = await here.create_room(here.user("alice"), "12")
    await join(here, there, room.room_id)
    since = here.log.position
    await join(here, third, room.room_id)
    assert await stored(here, since) == []


async def test_what_came_in_through_us_goes_to_all_but_the_one_it_came_from(
    here: Server, there: Server, third: Server
) -> None:
    room = await here.create_room(here.user("alice"), "12")
    since = here.log.position
    await join(here, there, room.room_id, relay=True)
    assert await stored(here, since) == []
    joined = await join(here, third, room.room_id, relay=True)
    assert await stored(here, since) == [(joined.event_id, ["there.test"])]


async def test_who_is_removed_is_told_and_nothing_after_that(here: Server, there: Server) -> None:
    alice, bob = here.user("alice"), there.user("bob")
    room = await here.create_room(alice, "12")
    await join(here, there, room.room_id)
    since = here.log.position
    kick = await here.send(room.room_id, alice, MEMBER, {"membership": "leave"}, bob)
    await here.say(room.room_id, alice)
    assert await stored(here, since) == [(kick.event_id, ["there.test"])]
    assert room.servers == {"here.test": 1}


async def test_who_was_invited_learns_that_the_invitation_ended(here: Server, there: Server) -> None:
    alice, bob = here.user("alice"), there.user("bob")
    room = await here.create_room(alice, "12")
    since = here.log.position
    await here.send(room.room_id, alice, MEMBER, {"membership": "invite"}, bob)
    ended = await here.send(room.room_id, alice, MEMBER, {"membership": "leave"}, bob)
    assert await stored(here, since) == [(ended.event_id, ["there.test"])]


async def test_a_room_that_is_read_again_knows_its_servers(here: Server, there: Server) -> None:
    room = await here.create_room(here.user("alice"), "12")
    await join(here, there, room.room_id)
    again = await here.reload(room.room_id)
    assert again is not room
    assert again.servers == {"here.test": 1, "there.test": 1}
    assert list(again.remote_servers) == ["there.test"]


async def test_an_edu_is_stored_with_what_it_tells_of(here: Server, there: Server) -> None:
    room = await here.create_room(here.user("alice"), "12")
    await join(here, there, room.room_id)
    since = here.log.position
    draft = Draft(sender=here.user("alice"), type="m.room.message", content={"body": "hello"})
    changes = here.rooms.append(room, [draft], {})
    edu = OutboundEdu(("there.test", "other.test"), "m.device_list_update", {"user_id": "@alice:here.test"})
    nobody = OutboundEdu((), "m.device_list_update", {"user_id": "@alice:here.test"})
    await here.rooms.commit(room, [*changes, edu, nobody])
    assert await stored(here, since) == [
        (changes[0].event.event_id, ["there.test"]),
        (
            '{"content":{"user_id":"@alice:here.test"},"edu_type":"m.device_list_update"}',
            ["other.test", "there.test"],
        ),
    ]
