"""Upgrading rooms: what the successor takes over, and what becomes of the old room and its members."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from homeserver.errors import BadJson, Forbidden, UnsupportedRoomVersion
from homeserver.push_rules.changes import put_rule
from homeserver.requester import Requester
from tests.rooms.conftest import SERVER_NAME, Engine

VERSIONS = [("1", "12"), ("6", "10"), ("11", "12"), ("12", "12"), ("12", "11"), ("12", "6")]


@pytest.mark.parametrize(("old_version", "new_version"), VERSIONS)
async def test_the_successor_takes_over(
    engine: Engine, alice: Requester, bob: Requester, old_version: str, new_version: str
) -> None:
    alias = f"from-{old_version}-to-{new_version}"
    old = await engine.create(
        alice,
        room_version=old_version,
        visibility="public",
        room_alias_name=alias,
        name="Tea",
        topic="Green",
        creation_content={"type": "m.space", "m.federate": False},
        initial_state=[
            {"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}},
            {"type": "m.room.server_acl", "content": {"allow": ["*"]}},
            {"type": "m.room.avatar", "content": {"url": "mxc://veche.test/a"}},
            {"type": "m.space.child", "state_key": "!child:veche.test", "content": {"via": ["veche.test"]}},
            {"type": "com.example", "content": {"sender": "sensitive"}},
        ],
    )
    levels = old.content_of("m.room.power_levels")
    users = {**levels["users"], bob.user_id: 50}
    await engine.state.put(alice, old.room_id, "m.room.power_levels", "", {**levels, "users": users})
    await engine.moderation.ban(alice, old.room_id, "@mallory:other.test", reason="coffee")
    last = old.extremities[0].event_id

    new_id = await engine.upgrading.upgrade(alice, old.room_id, new_version)
    new, old = await engine.reload(new_id), await engine.reload(old.room_id)

    create = new.content_of("m.room.create")
    assert new.version.id == create["room_version"] == new_version
    tombstone = old.state_event("m.room.tombstone")
    assert tombstone is not None
    # where the new room's id is made of this very event, it cannot name what names it
    named = last if new.version.room_id_is_create_hash else tombstone.event_id
    assert create["predecessor"] == {"room_id": old.room_id, "event_id": named}
    assert create["type"] == "m.space" and create["m.federate"] is False
    for copied in (
        "m.room.encryption", "m.room.server_acl", "m.room.avatar", "m.room.name", "m.room.topic",
        "m.room.join_rules", "m.room.history_visibility",
    ):  # fmt: skip
        assert new.content_of(copied) == old.content_of(copied) != {}
    assert old.state_event("m.room.guest_access") is None
    assert new.content_of("m.room.guest_access") == {"guest_access": "forbidden"}
    assert new.state_event("com.example") is None
    assert new.state_event("m.space.child", "!child:veche.test") is not None
    assert new.content_of("m.room.member", "@mallory:other.test") == {"membership": "ban", "reason": "coffee"}

    given = new.content_of("m.room.power_levels")
    privileged = new.version.privileged_creators
    assert given["users"] == {bob.user_id: 50} | ({} if privileged else {alice.user_id: 100})
    if privileged:
        assert given["events"]["m.room.tombstone"] > given["state_default"]

    assert old.content_of("m.room.tombstone")["replacement_room"] == new_id
    assert old.power_levels.events_default == 50 and old.power_levels.invite == 50
    assert old.content_of("m.room.canonical_alias") == {}
    assert await engine.aliases.lookup(f"#{alias}:{SERVER_NAME}") == new_id
    assert new.content_of("m.room.canonical_alias") == {"alias": f"#{alias}:{SERVER_NAME}"}
    assert await engine.publication.is_published(new.nid)
    assert not await engine.publication.is_published(old.nid)
    await engine.joining.join(bob, new_id)


async def test_many_bans_are_taken_over(engine: Engine, alice: Requester) -> None:
    old = await engine.create(alice, room_version="10")
    banned = [f"@mallory{number}:other.test" for number in range(250)]
    for user_id in banned:
        await engine.moderation.ban(alice, old.room_id, user_id)
    new = await engine.reload(await engine.upgrading.upgrade(alice, old.room_id, "11"))
    assert {user_id for user_id, _ in new.members("ban")} == set(banned)
    assert new.content_of("m.room.power_levels")["users"] == {alice.user_id: 100}


async def test_a_moderator_upgrades_without_gaining_power(
    engine: Engine, alice: Requester, bob: Requester
) -> None:
    levels = {"users": {alice.user_id: 100, bob.user_id: 60}, "events": {"m.room.tombstone": 60}}
    old = await engine.create(
        alice, preset="public_chat", room_version="10", power_level_content_override=levels
    )
    await engine.joining.join(bob, old.room_id)
    new = await engine.reload(await engine.upgrading.upgrade(bob, old.room_id, "11"))
    assert new.content_of("m.room.power_levels")["users"] == levels["users"]
    assert new.content_of("m.room.create").get("creator") is None
    old = await engine.reload(old.room_id)
    assert old.content_of("m.room.tombstone")["replacement_room"] == new.room_id


async def test_additional_creators_are_named_anew(engine: Engine, alice: Requester, bob: Requester) -> None:
    old = await engine.create(
        alice,
        room_version="12",
        preset="trusted_private_chat",
        invite=[bob.user_id],
    )
    dropped = await engine.upgrading.upgrade(alice, old.room_id, "12")
    room = await engine.reload(dropped)
    assert "additional_creators" not in room.content_of("m.room.create")
    assert room.content_of("m.room.power_levels")["users"] == {bob.user_id: 100}
    kept = await engine.upgrading.upgrade(alice, dropped, "12", additional_creators=[bob.user_id])
    room = await engine.reload(kept)
    assert room.content_of("m.room.create")["additional_creators"] == [bob.user_id]
    assert room.content_of("m.room.power_levels")["users"] == {}
    with pytest.raises(BadJson):
        await engine.upgrading.upgrade(alice, kept, "12", additional_creators=["bob"])


async def test_refusals_leave_the_old_room_alone(engine: Engine, alice: Requester, bob: Requester) -> None:
    old = await engine.create(alice, preset="public_chat")
    with pytest.raises(UnsupportedRoomVersion):
        await engine.upgrading.upgrade(alice, old.room_id, "13")
    with pytest.raises(Forbidden):
        await engine.upgrading.upgrade(bob, old.room_id, "12")
    await engine.joining.join(bob, old.room_id)
    with pytest.raises(Forbidden):
        await engine.upgrading.upgrade(bob, old.room_id, "12")
    assert old.state_event("m.room.tombstone") is None
    await engine.sending.send(bob, old.room_id, "m.room.message", "1", {"body": "tea"})


async def test_join_rules_that_the_new_version_does_not_know_become_invite(
    engine: Engine, alice: Requester
) -> None:
    rules = {"type": "m.room.join_rules", "content": {"join_rule": "restricted", "allow": []}}
    old = await engine.create(alice, room_version="12", initial_state=[rules])
    new = await engine.reload(await engine.upgrading.upgrade(alice, old.room_id, "6"))
    assert new.join_rule == "invite"


async def test_members_keep_their_settings(engine: Engine, alice: Requester, bob: Requester) -> None:
    old = await engine.create(alice, preset="public_chat")
    await engine.joining.join(bob, old.room_id)
    await engine.tags.put(bob, old.room_id, "m.favourite", {"order": 0.5})
    await engine.push_rules.edit(bob, lambda rules: put_rule(rules, "room", old.room_id, {"actions": []}))
    await engine.account_data.put(bob, "m.direct", {alice.user_id: [old.room_id]})
    new_id = await engine.upgrading.upgrade(alice, old.room_id, "12")
    await engine.joining.join(bob, new_id)
    assert await engine.tags.get(bob, new_id) == {"m.favourite": {"order": 0.5}}
    rules = (await engine.push_rules.rule_set(bob.user_id)).to_api(bob.user_id)["global"]["room"]
    assert {rule["rule_id"] for rule in rules} == {old.room_id, new_id}
    assert new_id.encode() in await engine.account_data.get(bob, "m.direct")


async def test_a_claimed_predecessor_gets_nothing(engine: Engine, alice: Requester, bob: Requester) -> None:
    old = await engine.create(alice, preset="public_chat")
    await engine.joining.join(bob, old.room_id)
    await engine.tags.put(bob, old.room_id, "m.favourite", {})
    claim = await engine.create(
        alice, preset="public_chat", creation_content={"predecessor": {"room_id": old.room_id}}
    )
    await engine.joining.join(bob, claim.room_id)
    assert await engine.tags.get(bob, claim.room_id) == {}


@pytest.mark.parametrize("new_version", ["11", "12"])
async def test_who_goes_on_talking_does_not_keep_the_old_room_open(
    engine: Engine, alice: Requester, bob: Requester, new_version: str
) -> None:
    old = await engine.create(alice, preset="public_chat", room_version="10")
    await engine.joining.join(bob, old.room_id)

    async def talk() -> int:
        sent = 0
        with suppress(Forbidden):
            while True:
                await engine.sending.send(bob, old.room_id, "m.room.message", f"m{sent}", {"body": "and"})
                sent += 1
        return sent

    async with asyncio.timeout(30):
        talking = asyncio.create_task(talk())
        new_id = await engine.upgrading.upgrade(alice, old.room_id, new_version)
        assert await talking > 0
    old = await engine.reload(old.room_id)
    assert old.content_of("m.room.tombstone")["replacement_room"] == new_id
