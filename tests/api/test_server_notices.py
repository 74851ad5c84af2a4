"""Server notices, from an administrator's request to a user's sync: Client-Server API, "Server Notices"."""

from __future__ import annotations

from tests.api.client import JsonObject, User, refused, timeline_of

PATH = "/_synapse/admin/v1/send_server_notice"
CONTENT: JsonObject = {
    "msgtype": "m.server_notice",
    "body": "The server moves",
    "server_notice_type": "test.move",
}


async def test_a_user_is_invited_reads_and_leaves(admin: User, alice: User) -> None:
    sent = await admin.post(PATH, json={"user_id": alice.user_id, "content": CONTENT})
    [(room, invite)] = (await alice.sync())["rooms"]["invite"].items()
    names = [
        event["content"]["name"]
        for event in invite["invite_state"]["events"]
        if event["type"] == "m.room.name"
    ]
    assert names == ["Server notices"]
    with refused(403, "M_CANNOT_LEAVE_SERVER_NOTICE_ROOM"):
        await alice.leave(room)
    await alice.join(room)
    synced = await alice.sync()
    message = next(event for event in timeline_of(synced, room) if event["type"] == "m.room.message")
    assert (message["event_id"], message["content"]) == (sent["event_id"], CONTENT)
    tags = next(
        event["content"]["tags"]
        for event in synced["rooms"]["join"][room]["account_data"]["events"]
        if event["type"] == "m.tag"
    )
    assert tags == {"m.server_notice": {}}
    with refused(403, "M_FORBIDDEN"):
        await alice.send(room, "An answer")
    await alice.leave(room)


async def test_a_transaction_is_sent_once(admin: User, alice: User) -> None:
    body = {"user_id": alice.user_id, "content": CONTENT}
    first = await admin.put(f"{PATH}/{{}}", "t1", json=body)
    assert await admin.put(f"{PATH}/{{}}", "t1", json=body) == first
    assert await admin.put(f"{PATH}/{{}}", "t2", json=body) != first


async def test_only_administrators_speak_for_the_server(alice: User, bob: User) -> None:
    with refused(403, "M_FORBIDDEN"):
        await alice.post(PATH, json={"user_id": bob.user_id, "content": CONTENT})


async def test_wrong_requests_are_refused(admin: User, alice: User) -> None:
    for body, status, errcode in (
        ({"content": CONTENT}, 400, "M_MISSING_PARAM"),
        ({"user_id": alice.user_id}, 400, "M_MISSING_PARAM"),
        ({"user_id": alice.user_id, "content": "hello"}, 400, "M_BAD_JSON"),
        ({"user_id": alice.user_id, "content": {"number": 1.5}}, 400, "M_BAD_JSON"),
        ({"user_id": f"@nobody:{alice.server_name}", "content": CONTENT}, 404, "M_NOT_FOUND"),
        ({"user_id": "@someone:elsewhere.test", "content": CONTENT}, 400, "M_INVALID_PARAM"),
    ):
        with refused(status, errcode):
            await admin.post(PATH, json=body)
