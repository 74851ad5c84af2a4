"""Users of three companies in one room: everybody gets in, and what happens is alike everywhere."""

from __future__ import annotations

import asyncio

import pytest

from tests.api.client import JsonObject, User, refused
from tests.network.companies import (
    NAMES,
    Companies,
    become_alike,
    events_of,
    sent_by,
    state_hash,
    until,
)

ACME, GLOBEX, INITECH = NAMES


def text(body: str, **more: object) -> JsonObject:
    return {"msgtype": "m.text", "body": body, **more}


async def join_through(user: User, room_id: str, server: str) -> None:
    await user.post("/v3/join/{}", room_id, query={"via": [server]})


async def membership_seen(user: User, room_id: str, member: str) -> str:
    """The membership in the state that this user's server has; empty if it has none."""
    state = await user.get("/v3/rooms/{}/state", room_id)
    found = [event for event in state if (event["type"], event["state_key"]) == ("m.room.member", member)]
    return str(found[0]["content"]["membership"]) if found else ""


async def invited_to(user: User) -> list[str]:
    return list((await user.sync()).get("rooms", {}).get("invite", {}))


async def test_users_of_all_companies_enter_by_invitation(
    companies: Companies, alice: User, bob: User, other_alice: User
) -> None:
    room_id = await alice.create_room(preset="private_chat", name="By invitation")
    for user in (bob, other_alice):
        with refused(403, "M_FORBIDDEN"):
            await join_through(user, room_id, ACME)
        await alice.invite(room_id, user.user_id)
        assert room_id in await until(lambda user=user: invited_to(user), "no invitation arrived")
        await user.join(room_id)
    await other_alice.send(room_id, "we are all here")
    await become_alike((alice, bob, other_alice), room_id)
    assert await membership_seen(bob, room_id, other_alice.user_id) == "join"


async def test_somebody_who_was_invited_invites_others(
    companies: Companies, alice: User, bob: User, other_alice: User
) -> None:
    room_id = await alice.create_room(preset="private_chat")
    await alice.invite(room_id, bob.user_id)
    await until(lambda: invited_to(bob), "no invitation arrived")
    await bob.join(room_id)
    await bob.invite(room_id, other_alice.user_id)
    await until(lambda: invited_to(other_alice), "no invitation arrived")
    await other_alice.join(room_id)
    await become_alike((alice, bob, other_alice), room_id)
    assert await membership_seen(alice, room_id, other_alice.user_id) == "join"


async def test_users_of_all_companies_enter_by_an_alias(
    companies: Companies, alice: User, bob: User, other_alice: User
) -> None:
    room_id = await alice.create_room(room_alias_name=f"open-{alice.localpart}")
    for user in (bob, other_alice):
        await user.post("/v3/join/{}", f"#open-{alice.localpart}:{ACME}")
    await become_alike((alice, bob, other_alice), room_id)
    assert await membership_seen(alice, room_id, bob.user_id) == "join"
    assert await membership_seen(bob, room_id, other_alice.user_id) == "join"


async def test_members_of_one_room_enter_another_that_lets_them_in(
    companies: Companies, alice: User, bob: User, other_alice: User
) -> None:
    lobby_id = await alice.create_room(preset="public_chat")
    rule = {"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": lobby_id}]}
    room_id = await alice.create_room(
        preset="private_chat",
        initial_state=[{"type": "m.room.join_rules", "state_key": "", "content": rule}],
    )
    for user in (bob, other_alice):
        with refused(403, "M_FORBIDDEN"):
            await join_through(user, room_id, ACME)
        await join_through(user, lobby_id, ACME)
        await join_through(user, room_id, ACME)
    await become_alike((alice, bob, other_alice), room_id)
    assert await membership_seen(other_alice, room_id, bob.user_id) == "join"


async def test_users_of_all_companies_knock_and_are_let_in(
    companies: Companies, alice: User, bob: User, other_alice: User
) -> None:
    room_id = await alice.create_room(
        preset="private_chat",
        initial_state=[{"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}}],
    )
    for user in (bob, other_alice):
        await user.post("/v3/knock/{}", room_id, query={"via": [ACME]}, json={"reason": "please"})

        async def has_knocked(user: User = user) -> bool:
            return await membership_seen(alice, room_id, user.user_id) == "knock"

        await until(has_knocked, "the knock was not heard")
        await alice.invite(room_id, user.user_id)
        await until(lambda user=user: invited_to(user), "no invitation arrived")
        await user.join(room_id)
    await become_alike((alice, bob, other_alice), room_id)
    assert await membership_seen(bob, room_id, bob.user_id) == "join"


async def room_of_all(alice: User, *others: User) -> str:
    """A new room of the first company that all have joined."""
    room_id = await alice.create_room()
    for user in others:
        await join_through(user, room_id, ACME)
    await become_alike((alice, *others), room_id)
    return room_id


async def test_what_is_said_edited_reacted_to_and_taken_back_is_alike_everywhere(
    companies: Companies, alice: User, bob: User, other_alice: User
) -> None:
    everybody = (alice, bob, other_alice)
    room_id = await room_of_all(*everybody)
    said = {user.user_id: await user.send(room_id, f"hello from {user.user_id}") for user in everybody}
    await become_alike(everybody, room_id)
    edit = text("* better", **{"m.new_content": text("better")})
    edited = said[bob.user_id]
    edit_id = await bob.send(room_id, {**edit, "m.relates_to": {"rel_type": "m.replace", "event_id": edited}})
    relation = {"rel_type": "m.annotation", "event_id": edited, "key": "👍"}
    reaction_ids = [
        await user.send(room_id, {"m.relates_to": relation}, type="m.reaction")
        for user in (alice, other_alice)
    ]
    await alice.redact(room_id, reaction_ids[0], "not so good")
    taken_back = said[other_alice.user_id]
    await other_alice.redact(room_id, taken_back)

    events = await become_alike(everybody, room_id)
    assert {*said.values(), edit_id, *reaction_ids} <= events.keys()
    for event_id in (reaction_ids[0], taken_back):
        assert events[event_id]["content"] == {} and events[event_id]["redacted_because"]
    for user in everybody:
        bundled = (await user.event(room_id, edited))["unsigned"]["m.relations"]
        assert bundled["m.replace"]["event_id"] == edit_id
        related = await user.get("/v1/rooms/{}/relations/{}/m.annotation", room_id, edited)
        assert [event["event_id"] for event in related["chunk"]] == [reaction_ids[1]]


async def test_power_kicks_and_bans_hold_everywhere(
    companies: Companies, alice: User, bob: User, other_alice: User
) -> None:
    everybody = (alice, bob, other_alice)
    room_id = await room_of_all(*everybody)
    with refused(403, "M_FORBIDDEN"):
        await bob.set_state(room_id, "m.room.topic", {"topic": "not yet"})
    await alice.give_power(room_id, bob)
    await become_alike(everybody, room_id)
    await bob.set_state(room_id, "m.room.topic", {"topic": "Bob may"})
    await become_alike(everybody, room_id)
    assert await other_alice.state(room_id, "m.room.topic") == {"topic": "Bob may"}

    kicked = await companies[INITECH].api.register("kicked")
    banned = await companies[INITECH].api.register("banned")
    for user in (kicked, banned):
        await join_through(user, room_id, GLOBEX)
    await become_alike(everybody, room_id)
    await bob.post("/v3/rooms/{}/kick", room_id, json={"user_id": kicked.user_id, "reason": "go"})
    await bob.post("/v3/rooms/{}/ban", room_id, json={"user_id": banned.user_id})
    await become_alike(everybody, room_id)
    for user in everybody:
        assert await membership_seen(user, room_id, kicked.user_id) == "leave"
        assert await membership_seen(user, room_id, banned.user_id) == "ban"
    for user in (kicked, banned):
        with refused(403, "M_FORBIDDEN"):
            await user.send(room_id, "I am still here")
    with refused(403, "M_FORBIDDEN"):
        await join_through(banned, room_id, ACME)
    await join_through(kicked, room_id, ACME)
    await alice.post("/v3/rooms/{}/unban", room_id, json={"user_id": banned.user_id})
    await become_alike(everybody, room_id)
    await join_through(banned, room_id, GLOBEX)
    await become_alike((*everybody, kicked, banned), room_id)


async def test_a_node_that_was_killed_gets_everything_when_it_is_back(
    companies: Companies, alice: User, bob: User, other_alice: User
) -> None:
    everybody = (alice, bob, other_alice)
    room_id = await room_of_all(*everybody)
    before = await other_alice.send(room_id, "before")
    await become_alike(everybody, room_id)
    away = companies[INITECH].node
    await away.kill()

    sent: dict[str, list[str]] = {alice.user_id: [], bob.user_id: []}
    for number in range(60):  # more than one transaction has room for
        for user in (alice, bob):
            sent[user.user_id].append(await user.send(room_id, f"{user.localpart} {number}"))
        if number % 20 == 0:
            sent[alice.user_id].append(
                await alice.set_state(room_id, "m.room.topic", {"topic": f"Topic {number}"})
            )
    newcomer = await companies[GLOBEX].api.register("bob")
    await join_through(newcomer, room_id, GLOBEX)
    sent[alice.user_id].append(await alice.redact(room_id, sent[bob.user_id][0]))
    await become_alike((alice, bob), room_id)

    await away.start()
    events = await become_alike(everybody, room_id)
    assert {before, *sent[alice.user_id], *sent[bob.user_id]} <= events.keys()
    assert events[sent[bob.user_id][0]]["redacted_because"]
    for user in everybody:
        order = await sent_by(user, room_id)
        for sender, event_ids in sent.items():
            assert [event_id for event_id in order[sender] if event_id in event_ids] == event_ids
    assert await membership_seen(other_alice, room_id, newcomer.user_id) == "join"
    after = await other_alice.send(room_id, "back again")
    assert after in await become_alike(everybody, room_id)


async def test_what_was_written_on_both_sides_of_a_cut_is_everywhere_when_it_is_mended(
    companies: Companies, alice: User, bob: User, other_alice: User
) -> None:
    everybody = (alice, bob, other_alice)
    room_id = await room_of_all(*everybody)
    await alice.give_power(room_id, bob, other_alice)
    await become_alike(everybody, room_id)

    companies.cut(INITECH)
    try:
        on_both_sides = [
            await alice.send(room_id, "over here"),
            await other_alice.send(room_id, "over there"),
            await alice.set_state(room_id, "m.room.topic", {"topic": "of most"}),
            await other_alice.set_state(room_id, "m.room.topic", {"topic": "of one"}),
            await bob.set_state(room_id, "m.room.name", {"name": "Named by Bob"}),
            await other_alice.set_state(room_id, "m.room.avatar", {}),
        ]
        await become_alike((alice, bob), room_id)
    finally:
        companies.mend()
    events = await become_alike(everybody, room_id)
    assert set(on_both_sides) <= events.keys()
    topics = {(await user.state(room_id, "m.room.topic"))["topic"] for user in everybody}
    assert len(topics) == 1
    await asyncio.gather(*(user.send(room_id, "together again") for user in everybody))
    await become_alike(everybody, room_id)


@pytest.mark.parametrize("version", ["10", "11", "12"])
async def test_the_room_goes_on_without_the_server_that_made_it(
    companies: Companies, alice: User, bob: User, other_alice: User, version: str
) -> None:
    room_id = await alice.create_room(room_version=version, room_alias_name=f"made-{alice.localpart}")
    for user in (bob, other_alice):
        await join_through(user, room_id, ACME)
    await alice.give_power(room_id, bob)
    await become_alike((alice, bob, other_alice), room_id)
    away = companies[ACME].node
    await away.kill()
    try:
        newcomer = await companies[INITECH].api.register("bob")
        unwanted = await companies[INITECH].api.register("alice")
        for user in (newcomer, unwanted):
            await user.post("/v3/join/{}", room_id, query={"via": [ACME, GLOBEX]})
        await become_alike((bob, other_alice, newcomer), room_id)  # a ban that comes first hides the join
        await bob.set_state(room_id, "m.room.topic", {"topic": "without Acme"})
        await bob.post("/v3/rooms/{}/ban", room_id, json={"user_id": unwanted.user_id})
        said = [await user.send(room_id, "we go on") for user in (bob, other_alice, newcomer)]
        await become_alike((bob, other_alice, newcomer), room_id)
    finally:
        await away.start()
    events = await become_alike((alice, bob, other_alice, newcomer), room_id)
    assert set(said) <= events.keys()
    assert await alice.state(room_id, "m.room.topic") == {"topic": "without Acme"}
    assert await membership_seen(alice, room_id, unwanted.user_id) == "ban"


async def test_each_node_is_killed_in_turn_while_all_write(
    companies: Companies, alice: User, bob: User, other_alice: User
) -> None:
    everybody = {ACME: alice, GLOBEX: bob, INITECH: other_alice}
    room_id = await room_of_all(*everybody.values())
    answered: dict[str, list[str]] = {user.user_id: [] for user in everybody.values()}
    for name, company in companies.by_name.items():
        present = [user for server, user in everybody.items() if server != name]

        async def write(user: User, first: int) -> None:
            for number in range(first, first + 15):
                event_id = await user.send(room_id, f"{user.localpart} {number}")
                answered[user.user_id].append(event_id)

        await asyncio.gather(*(write(user, 0) for user in present), company.node.kill())
        await asyncio.gather(*(write(user, 100) for user in present), company.node.start())
    events = await become_alike(everybody.values(), room_id)
    for user_id, event_ids in answered.items():
        assert set(event_ids) <= events.keys()
        for user in everybody.values():
            order = (await sent_by(user, room_id))[user_id]
            assert [event_id for event_id in order if event_id in event_ids] == event_ids


async def test_decisions_on_both_sides_of_a_cut_come_to_the_same_on_all(
    companies: Companies, alice: User, bob: User, other_alice: User
) -> None:
    everybody = (alice, bob, other_alice)
    room_id = await room_of_all(*everybody)
    await alice.give_power(room_id, bob, other_alice)
    disputed = await companies[INITECH].api.register("bob")
    await join_through(disputed, room_id, ACME)
    await become_alike((*everybody, disputed), room_id)

    companies.cut(INITECH)
    try:
        # Here her power is taken; there she uses it, and the one who is banned here speaks.
        await alice.give_power(room_id, other_alice, level=0)
        await alice.post("/v3/rooms/{}/ban", room_id, json={"user_id": disputed.user_id})
        await other_alice.set_state(room_id, "m.room.name", {"name": "Still mine"})
        spoken = await disputed.send(room_id, "nobody has told me")
        await become_alike((alice, bob), room_id)
    finally:
        companies.mend()
    for user in everybody:  # so that each hears of the others' newest events
        await user.send(room_id, "are we all of one mind?")

    async def one_mind() -> bool:
        return len({await state_hash(user, room_id) for user in everybody}) == 1

    await until(one_mind, "the states differ")
    for user in everybody:
        assert await membership_seen(user, room_id, disputed.user_id) == "ban"
        with refused(404, "M_NOT_FOUND"):  # what she did without power is undone
            await user.state(room_id, "m.room.name")
    for user in (alice, bob):
        assert spoken not in await events_of(user, room_id)


@pytest.mark.slow
async def test_a_long_absence_is_made_up_for(
    companies: Companies, alice: User, bob: User, other_alice: User
) -> None:
    everybody = (alice, bob, other_alice)
    room_id = await room_of_all(*everybody)
    await companies[INITECH].node.kill()

    async def write(user: User, numbers: range) -> list[str]:
        return [await user.send(room_id, f"{user.localpart} {number}") for number in numbers]

    sent = await asyncio.gather(
        *(write(user, range(start, start + 100)) for start in range(0, 800, 100) for user in (alice, bob))
    )
    await become_alike((alice, bob), room_id)
    await companies[INITECH].node.start()
    events = await become_alike(everybody, room_id)
    assert {event_id for event_ids in sent for event_id in event_ids} <= events.keys()
