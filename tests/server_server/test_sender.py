"""What goes out to other servers: in order, once answered never again, and nothing is held up or lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest
import pytest_asyncio
from aiohttp import web

from federation.backoff import DELAY_MAX_MS
from homeserver.clock import now_ms
from homeserver.commit_log.outbound import OutboundEdu
from homeserver.config.federation import FederationConfig
from homeserver.federating.destination import WAITING_MAX, Activity
from homeserver.federating.outbound import make_clients
from homeserver.federating.outbox_keeping import OutboxKeeping
from homeserver.federating.sender import ANSWER_BYTES_MAX, Sender, SenderMetrics
from homeserver.federating.servers import Servers
from homeserver.metrics import Metrics
from homeserver.rooms.draft import Draft
from homeserver.rooms.room import Room
from homeserver.storage import outbox as sql
from homeserver.supervisor import Supervisor
from tests.conformance import Exchanges
from tests.node import free_port
from tests.postgres import TestCluster
from tests.rooms.servers import Server, running_server
from tests.server_server.certificates import Authority
from tests.server_server.receiver import Receiver

HERE, THERE, OTHER = "here.test", "there.test", "other.test"
MEMBER = "m.room.member"


@pytest_asyncio.fixture(scope="module")
async def engines(postgres: TestCluster) -> AsyncIterator[dict[str, Server]]:
    """The server under test, and others to whose users its rooms are open."""
    async with AsyncExitStack() as stack:
        yield {
            name: await stack.enter_async_context(running_server(postgres, name, seed))
            for seed, name in enumerate((HERE, THERE, OTHER), 1)
        }


@dataclass(slots=True)
class World:
    """The server under test with its sender, and the receiving sides of the others."""

    engines: dict[str, Server]
    receivers: dict[str, Receiver]
    start: Callable[[], Awaitable[Sender]]
    authority: Authority
    results: Counter[str] = field(default_factory=Counter)
    refused: list[int] = field(default_factory=list)
    senders: list[Sender] = field(default_factory=list)

    @property
    def here(self) -> Server:
        return self.engines[HERE]

    @property
    def sender(self) -> Sender:
        return self.senders[-1]

    @property
    def keeping(self) -> OutboxKeeping:
        return OutboxKeeping(self.here.database.pool, self.sender)

    async def room(self, *servers: str) -> Room:
        """A room of Alice's, with one user of each of the servers."""
        here = self.here
        room = await here.create_room(here.user("alice"), "12")
        for server in servers:
            user_id = self.engines[server].user("bob")
            newest = [await here.pdu(event.event_id, room.room_id) for event in room.extremities]
            content = {"membership": "join"}
            auth = await here.auth_for(room.room_id, user_id, MEMBER, content, user_id)
            join = self.engines[server].build(
                room.version, room.room_id, user_id, MEMBER, content,
                prev=newest, auth=auth, state_key=user_id,
            )  # fmt: skip
            await here.receiving.receive(room.room_id, [join])
        return room

    async def say(self, room: Room, *bodies: str) -> list[str]:
        """Messages of Alice's, all sent at once; their ids."""
        drafts = [
            Draft(
                sender=self.here.user("alice"),
                type="m.room.message",
                content={"msgtype": "m.text", "body": body},
            )
            for body in bodies
        ]
        return [event.event_id for event in await self.here.rooms.send_all(room.room_id, drafts)]

    async def failed(self, server: str, failures: int = 1) -> None:
        """Wait until a server has failed so often and is left alone."""
        async with asyncio.timeout(20):
            while server not in self.sender.backing_off or self.sender.failures(server) < failures:
                await asyncio.sleep(0.01)

    async def settled(self, sending: int = 0) -> None:
        """Wait until transactions are in flight to so many servers only."""
        async with asyncio.timeout(20):
            while self.sender.count(Activity.SENDING) + self.sender.count(Activity.READY) > sending:
                await asyncio.sleep(0.01)

    async def outbox(self) -> int:
        return int(await self.here.database.pool.fetchval("SELECT count(*) FROM federation_outbox"))


@pytest_asyncio.fixture
async def world(
    engines: dict[str, Server], authority: Authority, exchanges: Exchanges
) -> AsyncIterator[World]:
    here = engines[HERE]
    pool = here.database.pool
    await pool.execute("TRUNCATE federation_outbox, destinations")
    keys = {here.key.key_id: here.key.verify_key}
    receivers = {name: Receiver(name, free_port(), HERE, keys, exchanges) for name in (THERE, OTHER)}
    config = FederationConfig(
        mode="open",
        hosts={name: f"127.0.0.1:{receiver.port}" for name, receiver in receivers.items()},
        ca_file=str(authority.ca_file),
    )
    async with AsyncExitStack() as stack:

        async def start() -> Sender:
            """A sender that goes on where the one before ended, as the next process would."""
            supervisor = Supervisor(lambda name: None)
            servers = Servers(config, lambda reason: None)
            client, _ = make_clients(HERE, here.key, config, servers, Metrics())
            stack.push_async_callback(client.close)
            sender = Sender(
                pool,
                here.log,
                client,
                supervisor,
                HERE,
                SenderMetrics(lambda result: world.results.update((result,)), world.refused.append),
            )
            world.senders.append(sender)
            stack.push_async_callback(supervisor.stop)
            stack.callback(sender.close)
            await sender.load()
            return sender

        world = World(engines, receivers, start, authority)
        await start()
        yield world


@pytest_asyncio.fixture
async def there(world: World, authority: Authority) -> AsyncIterator[Receiver]:
    async with world.receivers[THERE].serving(authority.certificate(THERE)) as receiver:
        yield receiver


async def test_what_is_sent_arrives_in_order_one_transaction_at_a_time(world: World, there: Receiver) -> None:
    room = await world.room(THERE)
    bodies = [str(number) for number in range(3 * WAITING_MAX)]
    for start in range(0, len(bodies), 60):
        await world.say(room, *bodies[start : start + 60])
    await there.until_true(lambda: len(there.bodies) >= len(bodies))
    assert there.bodies == bodies
    assert there.in_flight_max == 1
    assert len({received.txn_id for received in there.received}) == len(there.received)


async def test_an_event_goes_out_as_it_was_signed(world: World, there: Receiver) -> None:
    room = await world.room(THERE)
    [event_id] = await world.say(room, "hello")
    [received] = await there.until(1)
    pdu = await world.here.pdu(event_id, room.room_id)
    assert received.json["pdus"] == [pdu.json]


async def test_a_transaction_is_repeated_as_it_was_until_it_is_answered(
    world: World, there: Receiver
) -> None:
    room = await world.room(THERE)
    there.status = 503
    await world.say(room, "first")
    await world.failed(THERE)
    await world.say(room, "second")
    there.status = 200
    await there.until(2)
    await world.settled()
    first, again, second = there.received
    assert (first.txn_id, first.body) == (again.txn_id, again.body)
    assert second.txn_id != first.txn_id
    assert there.bodies == ["first", "second"]
    assert world.results == {"Refused": 1, "ok": 2}


async def test_back_off_outlives_the_process_and_so_does_what_waits(
    world: World, authority: Authority
) -> None:
    room = await world.room(THERE)
    await world.say(room, "one")
    await world.failed(THERE, 2)
    before = world.sender.retry_at_ms(THERE)
    world.sender.close()
    await world.keeping.store()

    await world.say(room, "two")
    sender = await world.start()
    assert sender.backing_off == [THERE]
    assert (sender.failures(THERE), sender.retry_at_ms(THERE)) == (2, before)
    assert sender.waiting_count == 0
    async with world.receivers[THERE].serving(authority.certificate(THERE)) as there:
        await there.until_true(lambda: len(there.bodies) >= 2)
        assert there.bodies == ["one", "two"]


async def test_who_was_absent_catches_up_in_order_as_soon_as_it_is_heard_from(
    world: World, authority: Authority
) -> None:
    room = await world.room(THERE)
    await world.say(room, "0")
    await world.failed(THERE, 3)
    bodies = [str(number) for number in range(1, 400)]
    for start in range(0, len(bodies), 100):
        await world.say(room, *bodies[start : start + 100])
    assert world.sender.waiting_count == 0  # they wait in the outbox
    assert world.sender.oldest_waiting_s > 0
    async with world.receivers[THERE].serving(authority.certificate(THERE)) as there:
        world.sender.heard_from(THERE)
        await there.until_true(lambda: len(there.bodies) >= 400)
        assert there.bodies == ["0", *bodies]
        assert max(len(received.json["pdus"]) for received in there.received) == 50
    assert world.sender.backing_off == []


async def test_a_server_that_does_not_answer_holds_up_no_other(
    world: World, there: Receiver, authority: Authority
) -> None:
    other = world.receivers[OTHER]
    other.hanging = asyncio.Event()
    async with other.serving(authority.certificate(OTHER)):
        room = await world.room(THERE, OTHER)
        bodies = [str(number) for number in range(10)]
        for body in bodies:
            await world.say(room, body)
        await there.until_true(lambda: len(there.bodies) >= len(bodies))
        assert there.bodies == bodies
        assert len(other.received) == 1 and not other.answered
        await world.settled(sending=1)
        other.hanging.set()
        await other.until_true(lambda: len(other.bodies) >= len(bodies))
        assert other.bodies == bodies


async def test_an_event_that_the_other_server_does_not_take_is_counted_and_not_sent_again(
    world: World, there: Receiver
) -> None:
    room = await world.room(THERE)
    there.hanging = asyncio.Event()
    [event_id] = await world.say(room, "refused")
    await there.until(1, answered=False)
    there.errors[event_id] = "You are not in this room"
    there.hanging.set()
    await there.until(1)
    await world.say(room, "taken")
    await there.until(2)
    assert there.bodies == ["refused", "taken"]
    assert world.refused == [1]


async def test_edus_that_last_go_out_in_order_and_at_most_a_hundred_at_once(
    world: World, there: Receiver
) -> None:
    there.hanging = asyncio.Event()
    contents = [{"message_id": str(number)} for number in range(250)]
    await world.here.log.commit(
        *(OutboundEdu((THERE,), "m.direct_to_device", content) for content in contents)
    )
    there.hanging.set()
    await there.until_true(lambda: len(there.edus) >= len(contents))
    assert there.edus == [{"content": content, "edu_type": "m.direct_to_device"} for content in contents]


async def test_after_a_crash_the_same_content_has_the_same_transaction_id(
    world: World, authority: Authority
) -> None:
    room = await world.room(THERE)
    receiver = world.receivers[THERE]
    receiver.hanging = asyncio.Event()
    async with receiver.serving(authority.certificate(THERE)):
        await world.say(room, "hello")
        await receiver.until(1, answered=False)
        world.sender.close()  # and nothing is stored, as if the process had been killed
        await world.start()
        await receiver.until(2, answered=False)
        receiver.hanging.set()
        await receiver.until(2)
        first, second = receiver.received
        assert first.txn_id == second.txn_id
        assert first.json["pdus"] == second.json["pdus"]


async def test_what_all_have_is_deleted_and_what_somebody_lacks_is_not(
    world: World, there: Receiver, authority: Authority
) -> None:
    both, one = await world.room(THERE, OTHER), await world.room(THERE)
    await world.say(both, "for both")
    await world.say(one, "for one")
    await there.until_true(lambda: len(there.bodies) >= 2)
    await world.failed(OTHER)
    await world.settled()
    await world.keeping.store()
    await world.keeping.delete()
    assert await world.outbox() == 1
    async with world.receivers[OTHER].serving(authority.certificate(OTHER)) as other:
        world.sender.heard_from(OTHER)
        await other.until(1)
        await world.settled()
    assert await world.keeping.store()
    await world.keeping.delete()
    assert await world.outbox() == 0
    assert not await world.keeping.store()
    assert sum(world.sender.count(activity) for activity in Activity) == 0  # nobody is kept in memory


async def test_who_was_absent_for_long_gets_only_the_newest_of_each_room(
    world: World, authority: Authority
) -> None:
    busy, quiet = await world.room(THERE), await world.room(THERE)
    await world.say(quiet, "quiet")
    await world.say(busy, *(str(number) for number in range(30)))
    await world.failed(THERE)
    await world.keeping.store()
    pool = world.here.database.pool
    assert await sql.shorten_events(pool, [THERE], keep=4, events_max=10, older_than_ms=0) == 26
    async with world.receivers[THERE].serving(authority.certificate(THERE)) as there:
        world.sender.heard_from(THERE)
        await there.until_true(lambda: "29" in there.bodies)
        # what was under way when it failed is repeated as it was
        assert there.bodies[0] == "quiet" and there.bodies[-4:] == ["26", "27", "28", "29"]
    await world.keeping.store()
    await world.keeping.delete()
    assert await world.outbox() == 0


async def test_of_updates_that_replace_each_other_the_absent_get_the_last_and_all_messages_within_a_bound(
    world: World, authority: Authority
) -> None:
    await world.say(await world.room(THERE), "is not taken")
    await world.failed(THERE)
    servers = THERE, OTHER
    await world.here.log.commit(
        *(OutboundEdu(servers, "m.device_list_update", {"n": n}, f"of {n % 2}") for n in range(6)),
        *(OutboundEdu((THERE,), "m.direct_to_device", {"n": n, "text": "x" * 1000}) for n in range(6)),
    )
    await world.failed(OTHER)
    await world.keeping.store()
    pool = world.here.database.pool
    few = await sql.shorten_edus(pool, [THERE], replaceable_max=6, bytes_max=100_000)
    assert few == (0, 0)  # so few are sent one after the other, and nobody has to ask for whole lists
    assert await sql.shorten_edus(pool, [THERE], replaceable_max=5, bytes_max=4500) == (2, 4)
    assert await sql.shorten_edus(pool, [THERE], replaceable_max=1, bytes_max=4500) == (0, 0)
    async with world.receivers[THERE].serving(authority.certificate(THERE)) as there:
        world.sender.heard_from(THERE)
        await there.until_true(lambda: len(there.edus) >= 6)
        assert [edu["content"]["n"] for edu in there.edus] == [4, 5, 2, 3, 4, 5]
    async with world.receivers[OTHER].serving(authority.certificate(OTHER)) as other:
        world.sender.heard_from(OTHER)
        await other.until_true(lambda: len(other.edus) >= 6)
        assert [edu["content"]["n"] for edu in other.edus] == list(range(6))  # it was not asked for
    await world.settled()
    await world.keeping.store()
    await world.keeping.delete()
    assert await world.outbox() == 0


async def test_an_administrator_ends_a_back_off(world: World, there: Receiver) -> None:
    there.status = 500
    room = await world.room(THERE)
    await world.say(room, "hello")
    await world.failed(THERE)
    there.status = 200
    await world.keeping.store()
    pool = world.here.database.pool
    assert await sql.retry(pool, THERE)
    assert not await sql.retry(pool, OTHER)
    names = await sql.to_retry(pool)
    assert names == [THERE]
    world.sender.retry(names)
    await there.until(1)
    await world.keeping.store()
    assert await sql.to_retry(pool) == []


async def test_a_fault_of_our_own_database_is_not_held_against_the_other_server(
    world: World, there: Receiver
) -> None:
    there.status = 503
    room = await world.room(THERE)
    await world.say(room, "first")
    await world.failed(THERE)
    await world.say(room, "second")  # which waits in the outbox
    there.status = 200
    pool = world.here.database.pool
    await pool.execute("ALTER TABLE federation_outbox RENAME TO away")
    try:
        await there.until(1)
        await world.settled()
        assert world.sender.backing_off == [THERE]
        assert world.sender.failures(THERE) == 0
    finally:
        await pool.execute("ALTER TABLE away RENAME TO federation_outbox")
    world.sender.heard_from(THERE)
    await there.until(2)
    assert there.bodies == ["first", "second"]


@pytest.mark.parametrize(
    "reply",
    [
        web.Response(body=b"no JSON"),
        web.Response(body=b"[]"),
        web.Response(body=b'{"pdus":"' + b"x" * ANSWER_BYTES_MAX + b'"}'),
        web.Response(status=302, headers={"Location": "https://other.test/"}),
        web.Response(status=403, body=b'{"errcode":"M_FORBIDDEN"}'),
        web.Response(status=429, body=b'{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":999999999999999}'),
        web.Response(status=500, headers={"Retry-After": "soon"}, body=b"\x00\xff"),
    ],
    ids=lambda reply: f"{reply.status} {(reply.body or b'')[:20]!r}",
)
async def test_an_answer_that_is_none_is_a_failure_and_the_transaction_is_sent_again(
    world: World, there: Receiver, reply: web.Response
) -> None:
    there.replies.append(reply)
    room = await world.room(THERE)
    await world.say(room, "hello")
    await world.failed(THERE)
    retry_at_ms = world.sender.retry_at_ms(THERE)
    assert retry_at_ms is not None and retry_at_ms <= now_ms() + DELAY_MAX_MS
    world.sender.retry([THERE])
    await there.until(1)
    assert [received.txn_id for received in there.received] == [there.answered[0].txn_id] * 2


@pytest.mark.parametrize("pdus", [None, [], "all", {"$other": {}}, {"$a": 7}])
async def test_results_that_make_no_sense_do_no_harm(world: World, there: Receiver, pdus: object) -> None:
    there.replies.append(web.json_response({"pdus": pdus}))
    room = await world.room(THERE)
    await world.say(room, "first")
    await there.until(1, answered=False)
    await world.say(room, "second")
    await there.until(1)
    assert there.bodies == ["second"]
    assert world.results["ok"] >= 1 and not world.refused
