"""What the administrator may publish, and limits on rates."""

from __future__ import annotations

from tests.api.client import Api, Refused, User

SETTINGS = {
    "support": {"support_page": "https://example.com/support"},
    "rate_limits": {"enabled": True, "messages": {"per_second": 1, "burst": 3}},
}


async def test_the_support_page_is_told(api: Api) -> None:
    assert await api.get("/.well-known/matrix/support") == {"support_page": "https://example.com/support"}


async def test_too_many_messages_are_told_to_wait(alice: User) -> None:
    room = await alice.create_room()
    refusals = []
    for number in range(8):
        try:
            await alice.send(room, f"message {number}")
        except Refused as refusal:
            refusals.append(refusal)
    assert refusals
    assert {(each.status, each.errcode) for each in refusals} == {(429, "M_LIMIT_EXCEEDED")}
    assert refusals[0].json["retry_after_ms"] > 0
    assert int(refusals[0].headers["Retry-After"]) >= 1
    assert (
        len([event for event in await alice.history(room) if event["type"] == "m.room.message"])
        + len(refusals)
        == 8
    )
