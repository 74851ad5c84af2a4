"""What happens in one room, as a seed has it, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Any

from federation.room_versions import room_version
from homeserver.errors import MatrixError
from homeserver.rooms.draft import Draft
from homeserver.rooms.history_gaps import Earlier
from homeserver.rooms.room import Room
from tests.simulation.companies import USERS, Company
from tests.simulation.network import Network
from tests.simulation.simulated_loop import SimulatedLoop
from tests.simulation.views import NOT_STORED, View, check_alike, check_members, view

STEPS = 32
VERSIONS = ("10", "11", "12", "12", "6")
ACTIONS = (
    "say", "say", "say", "say", "topic", "topic", "name", "power", "ban", "kick", "unban", "join", "join",
    "join", "leave", "rules", "redact", "invite",
)  # fmt: skip
PAUSES_S = (0.0, 0.01, 0.1, 0.5, 3.0)
QUESTIONS_MAX = 60  # to the database until a crash
SETTLED_S = 1800.0
WAITED_S = 1200.0  # for what is missing: longer than a node is patient with a state that lacks something
PAGES_MAX = 20
GAPS = "SELECT event_id FROM history_gaps"


class Story:
    """Three companies' users in one room."""

    def __init__(self, seed: int, loop: SimulatedLoop, network: Network, companies: list[Company]) -> None:
        self.random = Random(seed)
        self.seed = seed
        self.loop = loop
        self.network = network
        self.companies = companies
        self.room_id = ""
        self.said: list[str] = []
        self.version = self.random.choice(VERSIONS)

    async def begin(self) -> None:
        """Alice of the first company makes a room, which the others enter."""
        first, *others = self.companies
        powers = {other.user("alice"): level for other, level in zip(others, (100, 50), strict=True)}
        room = await _create_room(first, self.version, f"seed{self.seed}", powers)
        self.room_id = room.room_id
        for other in others:
            await self._join(other, "alice", [first.name])
        await self._settle()  # each has met the others, and knows their keys

    async def _join(self, company: Company, name: str, via: Sequence[str]) -> None:
        services = company.node.services
        await services.joining.join(company.requesters[name], self.room_id, via=via)
        room = await services.rooms.get(self.room_id)
        member = room.member(company.user(name))
        if member is not None and services.rooms.is_durable(member):  # else it is of another one, just begun
            company.answered.add(member.event_id)

    # -- what happens --

    async def unfold(self) -> None:
        """Users do something, several at once; the network falls apart and is mended; nodes crash."""
        self.network.worsen()
        for _ in range(STEPS):
            for _ in range(self.random.choice((1, 1, 2, 3))):
                company = self.random.choice(self.companies)
                if company.is_up:
                    company.spawn(self._try(company))
            self._disturb()
            for company in self.companies:
                if not company.is_up and self.random.random() < 0.15:
                    await company.start()
            await asyncio.sleep(self.random.choice(PAUSES_S))

    def _disturb(self) -> None:
        company = self.random.choice(self.companies)
        match self.random.randrange(40):
            case 0 | 1:
                self.network.part()
            case 2 | 3 | 4 | 5:
                self.network.join_up()
            case 6:
                company.crash()
            case 7 | 8 if company.is_up:  # in the midst of whatever it does then
                company.crash_after(self.random.randint(1, QUESTIONS_MAX), self.random.random() < 0.5)

    async def _try(self, company: Company) -> None:
        try:
            await self._act(company)
        except MatrixError:
            pass  # not allowed, as this node sees it, or nobody answers
        except Exception as cause:
            company.life.fail(repr(cause))

    async def _act(self, company: Company) -> None:
        """One user does something that they may or may not be allowed to do."""
        random = self.random
        name = random.choice(USERS)
        user = company.user(name)
        other = random.choice(self.companies).user(random.choice(USERS))
        services = company.node.services
        action, number = random.choice(ACTIONS), random.randrange(1000)
        repeats = random.choice((1, 1, 4)) if action == "say" else 1
        via = [each.name for each in self.companies if each is not company]
        random.shuffle(via)
        room = await services.rooms.find(self.room_id)
        match action:
            case "join":
                await self._join(company, name, via)
            case "leave":
                await services.leaving.leave(company.requesters[name], self.room_id)
            case "invite":
                await services.inviting.invite(company.requesters[name], self.room_id, other)
            case _ if room is not None:
                draft = self._draft(room, action, user, other, number)
                for _ in range(repeats):
                    event = await services.rooms.send(self.room_id, draft)
                    company.answered.add(event.event_id)
                    self.said.append(event.event_id)

    def _draft(self, room: Room, action: str, user: str, other: str, number: int) -> Draft:
        levels = dict(room.content_of("m.room.power_levels"))
        random, redacts = self.random, None
        drafted: tuple[str, dict[str, Any], str | None]
        match action:
            case "topic" | "name":
                drafted = f"m.room.{action}", {action: f"{action} {number}"}, ""
            case "power":
                users = {**levels.get("users", {}), other: random.choice((0, 50, 100))}
                if room.version.privileged_creators:
                    users.pop(self.companies[0].user("alice"), None)
                drafted = "m.room.power_levels", {**levels, "users": users}, ""
            case "ban" | "kick" | "unban":
                membership = "ban" if action == "ban" else "leave"
                drafted = "m.room.member", {"membership": membership}, other
            case "rules":
                rule = random.choice(("public", "public", "public", "invite"))
                drafted = "m.room.join_rules", {"join_rule": rule}, ""
            case "redact":
                redacts = random.choice(self.said) if self.said else None
                in_content = room.version.redacts_in_content and redacts is not None
                drafted = "m.room.redaction", {"redacts": redacts} if in_content else {}, None
            case _:
                drafted = "m.room.message", {"msgtype": "m.text", "body": f"message {number}"}, None
        type, content, state_key = drafted
        return Draft(sender=user, type=type, content=content, state_key=state_key, redacts=redacts)

    # -- how it ends --

    async def end_well(self) -> None:
        """All is well from now on; everybody speaks, so that all branches meet; history is read."""
        self.loop.turns.crashes.clear()
        self.network.heal()
        for company in self.companies:
            if not company.is_up:
                await company.start()
        await self._settle()
        for _ in range(3):
            for company in self.companies:
                await self._speak(company)
            await self._settle()
        for company in self.companies:
            await self._read_history(company)
        await self._settle()

    async def _settle(self) -> None:
        started = self.loop.time()
        while restless := await self._restless(self.loop.time() - started):
            assert self.loop.time() < started + SETTLED_S, f"the nodes do not come to rest: {restless}"
            await asyncio.sleep(5.0)

    async def _restless(self, lasted_s: float) -> list[str]:
        """Who has something to do.

        Whom nobody sees in the room asks in vain for what it lacks; and so do others, if only servers have it
        that have left, or if it is from before they came. Whether that matters is seen in the end.
        """
        found = []
        for company in self.companies:
            waiting = company.waiting_events.count
            if not company.is_quiet:
                found.append(f"{company.name} works")
            elif waiting and lasted_s < WAITED_S:
                views = await self._views()
                if any(_share(views[company.name], other) for other in views.values()):
                    found.append(f"{company.name} waits for what {waiting} events refer to")
        return found

    async def _speak(self, company: Company) -> None:
        rooms = company.node.services.rooms
        room = await rooms.find(self.room_id)
        speakers = sorted(room.local_members) if room is not None else []
        for speaker in speakers[:1]:
            draft = Draft(sender=speaker, type="m.room.message", content={"body": "all is well"})
            company.answered.add((await rooms.send(self.room_id, draft)).event_id)

    async def _read_history(self, company: Company) -> None:
        services = company.node.services
        room = await services.rooms.find(self.room_id)
        for _ in range(PAGES_MAX):
            if room is None or not room.local_members:
                return
            found = await services.history.earlier.fetch(room, 2**53, -1)
            if found is Earlier.NOTHING:
                return
            if found is Earlier.UNREACHED:
                await asyncio.sleep(10.0)
        views = await self._views()
        here = views[company.name]
        for row in await company.pool.fetch(GAPS):
            for other in views.values():
                has_it = not other.flags.get(row["event_id"], NOT_STORED) & NOT_STORED
                assert not (has_it and _share(here, other)), (
                    f"{here.server_name} does not get {row['event_id']} from {other.server_name}"
                )

    async def check(self) -> None:
        """Nothing that was answered for is lost, and whoever shares the room has the same of it."""
        views = await self._views()
        for company in self.companies:
            assert not company.failures, company.failures
            lost = company.answered - views[company.name].flags.keys()
            assert not lost, f"{company.name} answered for {lost} and does not have it"
            await check_members(company, self.room_id)
        for one in views.values():
            for other in views.values():
                if _share(one, other):
                    check_alike(one, other)

    async def check_stored(self) -> None:
        """After a new start of one of them, the room is as it was."""
        before = await self._views()
        company = self.random.choice(self.companies)
        company.crash()
        await company.start()
        if before[company.name].is_inside:
            assert await view(company, self.room_id) == before[company.name], (
                f"{company.name} stored something else"
            )

    async def _views(self) -> dict[str, View]:
        return {each.name: await view(each, self.room_id) for each in self.companies}


def _share(one: View, other: View) -> bool:
    """Whether each sees the other in the room: whom others see outside is told of nothing by them."""
    return one is not other and one.sees(other) and other.sees(one)


async def _create_room(company: Company, version_id: str, name: str, powers: dict[str, int]) -> Room:
    rooms, version, creator = company.node.services.rooms, room_version(version_id), company.user("alice")
    users = powers if version.privileged_creators else {creator: 100, **powers}
    create: dict[str, Any] = {"room_version": version_id}
    if version.creator_in_content:
        create["creator"] = creator
    drafts = [
        Draft(sender=creator, type="m.room.create", content=create, state_key=""),
        Draft(sender=creator, type="m.room.member", content={"membership": "join"}, state_key=creator),
        Draft(sender=creator, type="m.room.power_levels", content={"users": users}, state_key=""),
        Draft(sender=creator, type="m.room.join_rules", content={"join_rule": "public"}, state_key=""),
    ]
    return await rooms.create(version, f"!{name}:{company.name}", drafts)
