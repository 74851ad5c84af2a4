"""Messages between the devices of two servers."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.api.client import User
from tests.api.device_crypto import to_device_of
from tests.server_server.conftest import ACME
from tests.server_server.device_peer import DevicePeer
from tests.server_server.room_peer import RoomPeer

JsonObject = dict[str, Any]


async def messages_of(user: User, count: int) -> list[JsonObject]:
    """The first so many messages to the device, acknowledged."""
    found: list[JsonObject] = []
    since = None
    async with asyncio.timeout(20):
        while len(found) < count:
            answer = await user.sync(since, timeout_ms=0 if since is None else 5_000)
            found += to_device_of(answer)
            since = answer["next_batch"]
    await user.sync(since)
    return found


async def test_messages_reach_devices_of_the_other_server_in_order(alice: User, bob: User) -> None:
    second = await bob.on_new_device()
    for number in range(5):
        content = {bob.device_id: {"n": number}, "*": {"n": -number}}
        await alice.put(
            "/v3/sendToDevice/{}/{}", "m.test", str(number), json={"messages": {bob.user_id: content}}
        )
    assert await messages_of(bob, 5) == [
        {"type": "m.test", "sender": alice.user_id, "content": {"n": number}} for number in range(5)
    ]
    assert [event["content"]["n"] for event in await messages_of(second, 5)] == [0, -1, -2, -3, -4]


async def test_messages_of_the_peer_come_once_and_only_from_its_users(
    alice: User, carol: DevicePeer, rooms: RoomPeer
) -> None:
    def message(number: int, message_id: object, **more: object) -> JsonObject:
        content: JsonObject = {
            "sender": carol.user_id,
            "type": "m.test",
            "message_id": message_id,
            "messages": {alice.user_id: {alice.device_id: {"n": number}}},
            **more,
        }
        return {"edu_type": "m.direct_to_device", "content": content}

    await rooms.transmit(ACME, edus=[message(1, f"{alice.device_id}-a"), message(1, f"{alice.device_id}-a")])
    await rooms.transmit(ACME, edus=[message(1, f"{alice.device_id}-a"), message(2, f"{alice.device_id}-b")])
    wrong = [
        message(3, "c", sender=alice.user_id),
        message(3, "d", sender="nobody"),
        message(3, 7),
        message(3, "e" * 300),
        message(3, "f\x00"),
        message(3, "g", type=None),
        message(3, "h", messages=[]),
        message(3, "i", messages={alice.user_id: []}),
        message(3, "j", messages={"@nul\x00:x": {"*": {}}}),
    ]
    assert (await rooms.transmit(ACME, edus=wrong)).status == 200
    assert [event["content"]["n"] for event in await messages_of(alice, 2)] == [1, 2]
