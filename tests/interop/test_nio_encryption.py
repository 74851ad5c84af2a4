"""Encrypted rooms with matrix-nio and vodozemac: on one node, and across two."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import nio

from tests.api.client import Api, User, http_session
from tests.conformance import Exchanges
from tests.interop.nio_device import Device, logged_in, until
from tests.interop.proxy import observing_proxy
from tests.node import Node
from tests.server_server.conftest import Network

ENCRYPTION = {
    "type": "m.room.encryption",
    "state_key": "",
    "content": {"algorithm": "m.megolm.v1.aes-sha2"},
}


async def test_on_one_node(node: Node, exchanges: Exchanges, data_dir: Path) -> None:
    async with http_session() as http:
        api = Api(http, node.url, node.server_name, exchanges)
        await talk_encrypted(await api.register("alice"), await api.register("bob"), data_dir)


async def test_across_two_nodes(network: Network, data_dir: Path) -> None:
    alice, bob = await network.acme_api.register("alice"), await network.globex_api.register("bob")
    await talk_encrypted(alice, bob, data_dir)


async def talk_encrypted(alice: User, bob: User, folder: Path) -> None:
    """Two devices each: they read each other, two are verified, and one logs out."""
    for user in (alice, bob):
        await user.post("/v3/logout")
    async with AsyncExitStack() as stack:
        devices: list[Device] = []
        for user in (alice, alice, bob, bob):
            url = await stack.enter_async_context(observing_proxy(user.url, user.exchanges))
            devices.append(await stack.enter_async_context(logged_in(user, url, folder)))
        alice_1, alice_2, bob_1, bob_2 = devices
        room_id = await _meet(alice_1, bob_1, devices)
        for sender in devices:
            await _everyone_reads(sender, room_id, devices)
        await _verify(alice_1, bob_2)
        await _log_out(alice_2, bob_1, room_id, [alice_1, bob_1, bob_2])


async def _meet(alice: Device, bob: Device, devices: list[Device]) -> str:
    created = await alice.nio.room_create(initial_state=[ENCRYPTION])
    assert isinstance(created, nio.RoomCreateResponse), created
    room_id = str(created.room_id)
    await alice.nio.room_invite(room_id, bob.user_id)
    await until("the invitation", lambda: room_id in bob.nio.invited_rooms, alice, bob)
    assert isinstance(await bob.nio.join(room_id), nio.JoinResponse)
    users = {alice.user_id, bob.user_id}
    ids = {user_id: {device.id for device in devices if device.user_id == user_id} for user_id in users}

    def knows_all(device: Device) -> bool:
        room = device.nio.rooms.get(room_id)
        return (
            room is not None
            and room.encrypted
            and set(room.users) == users
            and all(
                device.devices_of(user_id) | {device.id} == ids[user_id] | {device.id} for user_id in users
            )
        )

    await until("all devices known to all", lambda: all(knows_all(device) for device in devices), *devices)
    return room_id


async def _everyone_reads(sender: Device, room_id: str, readers: list[Device]) -> None:
    body = f"From {sender.id} to all"
    event_id = await sender.send(room_id, body)
    await until(body, lambda: all(reader.reads(event_id, body) for reader in readers), *readers)


async def _verify(starting: Device, answering: Device) -> None:
    """Emoji are compared, and both devices trust each other."""
    started = await starting.nio.start_key_verification(
        starting.nio.device_store[answering.user_id][answering.id]
    )
    assert isinstance(started, nio.ToDeviceResponse), started
    [transaction_id] = starting.nio.key_verifications
    both = (starting, answering)
    await until("the start of a verification", lambda: answering.sas(transaction_id), *both)
    await answering.nio.accept_key_verification(transaction_id)
    await until(
        "the other's key",
        lambda: all((sas := device.sas(transaction_id)) and sas.established_sas for device in both),
        *both,
    )
    ours, theirs = starting.sas(transaction_id), answering.sas(transaction_id)
    assert ours is not None and theirs is not None
    assert ours.get_emoji() == theirs.get_emoji()
    for device in both:
        confirmed = await device.nio.confirm_short_auth_string(transaction_id)
        assert isinstance(confirmed, nio.ToDeviceResponse), confirmed
    await until("the verification", lambda: ours.verified and theirs.verified, *both)
    for one, other in (both, both[::-1]):
        assert one.nio.device_store[other.user_id][other.id].verified


async def _log_out(gone: Device, sender: Device, room_id: str, left: list[Device]) -> None:
    before = sender.nio.olm.outbound_group_sessions[room_id].id
    assert isinstance(await gone.nio.logout(), nio.LogoutResponse)
    await until("the logout", lambda: gone.id not in sender.devices_of(gone.user_id), sender)
    await _everyone_reads(sender, room_id, left)
    session = sender.nio.olm.outbound_group_sessions[room_id]
    assert session.id != before
    assert (gone.user_id, gone.id) not in session.users_shared_with
