"""Messages from device to device: Client-Server API, "Send-to-Device messaging"."""

from __future__ import annotations

import asyncio

import pytest

from tests.api.client import PASSWORD, Api, User, refused
from tests.api.device_crypto import to_device_of


async def send(
    sender: User, messages: dict[str, dict[str, object]], *, type: str = "m.test", txn_id: str = ""
) -> None:
    txn_id = txn_id or sender.next_txn_id()
    await sender.put("/v3/sendToDevice/{}/{}", type, txn_id, json={"messages": messages})


async def send_numbers(sender: User, device: User, *numbers: int) -> None:
    for number in numbers:
        await send(sender, {device.user_id: {device.device_id: {"n": number}}})


def numbers_of(sync: dict[str, object]) -> list[int]:
    return [event["content"]["n"] for event in to_device_of(sync)]


async def test_a_message_reaches_its_device_once_and_no_other(alice: User, bob: User) -> None:
    other = await bob.on_new_device()
    since = (await bob.sync())["next_batch"]
    waiting = asyncio.create_task(bob.sync(since, timeout_ms=30_000))
    await send(alice, {bob.user_id: {bob.device_id: {"secret": "äöü"}}}, type="m.room.encrypted")
    answer = await waiting
    assert to_device_of(answer) == [
        {"type": "m.room.encrypted", "sender": alice.user_id, "content": {"secret": "äöü"}}
    ]
    assert to_device_of(await bob.sync(answer["next_batch"])) == []
    assert to_device_of(await other.sync()) == []


async def test_a_message_that_is_too_large_is_refused_with_all_beside_it(alice: User, bob: User) -> None:
    other = await bob.on_new_device()
    with refused(413, "M_TOO_LARGE"):
        await send(alice, {bob.user_id: {other.device_id: {"n": 1}, bob.device_id: {"text": "x" * 66_000}}})
    await send(alice, {bob.user_id: {bob.device_id: {"n": 2, "text": "x" * 65_000}}})
    assert numbers_of(await bob.sync()) == [2]
    assert numbers_of(await other.sync()) == []


async def test_until_acknowledged_a_message_is_told_again(alice: User, bob: User) -> None:
    since = (await bob.sync())["next_batch"]
    await send_numbers(alice, bob, 1)
    first = await bob.sync(since)
    assert numbers_of(first) == numbers_of(await bob.sync(since)) == numbers_of(await bob.sync()) == [1]
    await bob.sync(first["next_batch"])
    assert numbers_of(await bob.sync(since)) == numbers_of(await bob.sync()) == []


async def test_a_star_means_all_devices_of_the_user(alice: User, bob: User) -> None:
    second = await bob.on_new_device()
    await send(alice, {bob.user_id: {"*": {"n": 1}, second.device_id: {"n": 2}}})
    assert numbers_of(await bob.sync()) == [1]
    assert numbers_of(await second.sync()) == [2]


async def test_order_is_kept_and_many_come_in_batches(alice: User, bob: User) -> None:
    since = (await bob.sync())["next_batch"]
    for start in range(0, 250, 25):
        await send_numbers(alice, bob, *range(start, start + 25))
    seen: list[int] = []
    while True:
        answer = await bob.sync(since)
        numbers = numbers_of(answer)
        assert len(numbers) <= 100
        if not numbers:
            break
        seen += numbers
        since = answer["next_batch"]
    assert seen == list(range(250))


async def test_what_waits_beyond_a_batch_is_told_without_waiting_for_news(alice: User, bob: User) -> None:
    await send(alice, {bob.user_id: {"*": {"n": -1}}})
    await send_numbers(alice, bob, *range(100))
    first = await bob.sync()
    assert len(numbers_of(first)) == 100
    second = await bob.sync(first["next_batch"], timeout_ms=30_000)
    assert numbers_of(second) == [99]
    assert numbers_of(await bob.sync(second["next_batch"])) == []


async def test_a_transaction_is_done_once(alice: User, bob: User) -> None:
    messages: dict[str, dict[str, object]] = {bob.user_id: {bob.device_id: {"n": 1}}}
    await asyncio.gather(*(send(alice, messages, txn_id="same") for _ in range(5)))
    await send(alice, messages, txn_id="same")
    await send(alice, messages, txn_id="same", type="m.other")
    other = await alice.on_new_device()
    await send(other, messages, txn_id="same")
    assert numbers_of(await bob.sync()) == [1, 1, 1]


async def test_unknown_users_and_devices_get_nothing(alice: User, bob: User) -> None:
    await send(
        alice,
        {
            f"@nobody:{alice.server_name}": {"*": {"n": 1}},
            "nonsense": {"*": {"n": 1}},
            "@nul\x00:x": {"*": {}},
            bob.user_id: {"NODEVICE": {"n": 1}, bob.device_id: {"n": 2}},
        },
    )
    assert numbers_of(await bob.sync()) == [2]


async def test_what_waits_for_a_device_goes_with_it(api: Api, alice: User, bob: User) -> None:
    await send_numbers(alice, bob, 1)
    await bob.post("/v3/logout")
    again = await api.login(bob.user_id, PASSWORD, device_id=bob.device_id)
    assert to_device_of(await again.sync()) == []


@pytest.mark.parametrize("messages", [[], {"@a:b": []}, {"@a:b": {"D": 1}}, {"@a:b": {"D": [1]}}])
async def test_messages_of_the_wrong_form_are_refused(alice: User, messages: object) -> None:
    with refused(400, "M_BAD_JSON"):
        await alice.put("/v3/sendToDevice/{}/{}", "m.test", "1", json={"messages": messages})


async def test_a_request_without_messages_is_refused(alice: User) -> None:
    with refused(400, "M_MISSING_PARAM"):
        await alice.put("/v3/sendToDevice/{}/{}", "m.test", "1", json={})
    with refused(400, "M_INVALID_PARAM"):
        await alice.put("/v3/sendToDevice/{}/{}", "m" * 256, "1", json={"messages": {}})


async def test_guests_may_send(api: Api, alice: User) -> None:
    guest = await api.register_guest()
    await send_numbers(guest, alice, 1)
    assert numbers_of(await alice.sync()) == [1]


async def test_devices_that_come_later_are_known_at_once(api: Api, alice: User, bob: User) -> None:
    await send(alice, {bob.user_id: {"*": {"n": 1}}})
    second = await bob.on_new_device()
    await send(alice, {bob.user_id: {"*": {"n": 2}}})
    await second.post("/v3/logout")
    again = await api.login(bob.user_id, PASSWORD, device_id=second.device_id)
    await send(alice, {bob.user_id: {"*": {"n": 3}}})
    assert numbers_of(await bob.sync()) == [1, 2, 3]
    assert numbers_of(await again.sync()) == [3]
