"""What waits for one server: bounded, in order, the latest of what may be missed."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from federation.backoff import DELAY_MAX_MS
from homeserver.federating.destination import (
    EARLY_RETRY_MS,
    TRANSACTION_BYTES,
    WAITING_MAX,
    Destination,
    Transaction,
)
from homeserver.federating.ephemeral_queue import KEYS_MAX, PRESENCES_PER_EDU, EphemeralQueue
from homeserver.storage.outbox import WaitingRow
from homeserver.storage.receipts import READ, Receipt

NOW_MS = 1_700_000_000_000


def row(position: int, *, edu: bool = False, json: bytes = b"{}") -> WaitingRow:
    return WaitingRow(position, NOW_MS, None if edu else f"${position}", json)


def edus(queue: EphemeralQueue, limit: int = 100) -> list[Any]:
    return [orjson.loads(edu) for edu in queue.take(limit, NOW_MS)]


def next_of(destination: Destination) -> Transaction:
    transaction = destination.next_transaction("a.test", NOW_MS)
    assert transaction is not None
    return transaction


def test_a_transaction_takes_the_oldest_of_both_kinds_and_leaves_the_rest() -> None:
    destination = Destination("b.test")
    for position in range(1, 80):
        destination.add(row(position, edu=position % 10 == 0))
    first = next_of(destination)
    assert (len(first.event_ids), first.edus_count, first.upto) == (50, 5, 55)
    assert next_of(destination) is first  # until it is answered
    destination.answered(NOW_MS)
    assert (destination.cursor, destination.waiting[0].position) == (55, 56)


def test_a_transaction_of_large_things_is_cut() -> None:
    destination = Destination("b.test")
    large = b'{"a":"' + b"x" * (TRANSACTION_BYTES // 2) + b'"}'
    for position in range(1, 6):
        destination.add(row(position, edu=True, json=large))
    assert next_of(destination).edus_count == 2


def test_what_does_not_fit_is_left_to_the_outbox() -> None:
    destination = Destination("b.test")
    for position in range(1, WAITING_MAX + 10):
        destination.add(row(position))
    assert (len(destination.waiting), destination.is_behind) == (WAITING_MAX, True)


@pytest.mark.parametrize("found", [2, 3])
def test_what_comes_while_the_outbox_is_read_follows_it_unless_more_is_there(found: int) -> None:
    destination = Destination("b.test", is_behind=True)
    destination.start_refill()
    destination.add(row(9))
    destination.refill([row(position) for position in range(1, found + 1)], limit=3)
    positions = [item.position for item in destination.waiting]
    assert positions == ([1, 2, 9] if found == 2 else [1, 2, 3])
    assert destination.is_behind is (found == 3)


def test_a_body_that_was_let_go_is_built_again_of_the_same_rows() -> None:
    destination = Destination("b.test")
    destination.add(row(1))
    destination.add(row(2))
    first = next_of(destination)
    destination.failed(NOW_MS, 0.0)
    destination.forget_body()
    destination.start_refill()
    destination.refill([row(1), row(2), row(3)], limit=10)
    again = next_of(destination)
    assert (again.txn_id, again.body) == (first.txn_id, first.body)
    destination.answered(NOW_MS)
    assert next_of(destination).event_ids == ["$3"]


def test_rows_that_are_gone_do_not_hold_up_those_that_are_left() -> None:
    destination = Destination("b.test")
    destination.add(row(1))
    next_of(destination)
    destination.failed(NOW_MS, 0.0)
    destination.forget_body()
    destination.start_refill()
    destination.refill([row(5)], limit=10)
    assert next_of(destination).event_ids == ["$5"]


def test_a_server_that_is_heard_from_is_tried_soon_but_not_all_the_time() -> None:
    destination = Destination("b.test")
    for _ in range(30):
        destination.failed(NOW_MS, 0.0)
    assert destination.backoff is not None
    assert destination.backoff.retry_at_ms == NOW_MS + DELAY_MAX_MS
    destination.heard_from(NOW_MS + 10)
    assert destination.backoff.retry_at_ms == NOW_MS + EARLY_RETRY_MS
    destination.heard_from(NOW_MS + 20)
    assert destination.backoff.retry_at_ms == NOW_MS + EARLY_RETRY_MS
    assert destination.failures == 30


def test_what_may_be_missed_is_forgotten_at_a_failure_and_alone_has_another_id_each_time() -> None:
    destination = Destination("b.test")
    destination.ephemeral.put_typing("!r", "@a:a.test", True)
    first = next_of(destination)
    assert first.upto == 0
    destination.answered(NOW_MS)
    assert destination.cursor == 0
    destination.ephemeral.put_typing("!r", "@a:a.test", True)
    second = next_of(destination)
    assert second.body == first.body and second.txn_id != first.txn_id
    destination.ephemeral.put_typing("!r", "@a:a.test", False)
    destination.failed(NOW_MS, 0.0)
    assert len(destination.ephemeral) == 0
    assert next_of(destination) is second


def test_of_typing_the_latest_counts() -> None:
    queue = EphemeralQueue()
    queue.put_typing("!r", "@a:a.test", True)
    queue.put_typing("!r", "@b:a.test", True)
    queue.put_typing("!r", "@a:a.test", False)
    told = {edu["content"]["user_id"]: edu["content"]["typing"] for edu in edus(queue)}
    assert told == {"@a:a.test": False, "@b:a.test": True}
    assert len(queue) == 0


def test_receipts_share_an_edu_but_for_those_of_one_user_in_several_threads() -> None:
    queue = EphemeralQueue()
    queue.put_receipt("!r", Receipt("@a:a.test", READ, "", "$1", 0, 1))
    queue.put_receipt("!r", Receipt("@a:a.test", READ, "", "$2", 0, 2))
    queue.put_receipt("!r", Receipt("@a:a.test", READ, "main", "$3", 0, 3))
    queue.put_receipt("!r", Receipt("@b:a.test", READ, "", "$1", 0, 4))
    queue.put_receipt("!s", Receipt("@a:a.test", READ, "", "$9", 0, 5))
    first, second = [edu["content"] for edu in edus(queue)]
    assert first == {
        "!r": {
            "m.read": {
                "@a:a.test": {"event_ids": ["$2"], "data": {"ts": 2}},
                "@b:a.test": {"event_ids": ["$1"], "data": {"ts": 4}},
            }
        },
        "!s": {"m.read": {"@a:a.test": {"event_ids": ["$9"], "data": {"ts": 5}}}},
    }
    threaded = {"event_ids": ["$3"], "data": {"ts": 3, "thread_id": "main"}}
    assert second == {"!r": {"m.read": {"@a:a.test": threaded}}}
    assert len(queue) == 0


def test_presence_is_one_edu_with_the_time_since_then() -> None:
    queue = EphemeralQueue()
    for number in range(PRESENCES_PER_EDU + 1):
        queue.put_presence(f"@{number}:a.test", {"presence": "online"}, NOW_MS - 7)
    [edu] = edus(queue)
    assert len(edu["content"]["push"]) == PRESENCES_PER_EDU
    assert edu["content"]["push"][0] == {
        "user_id": "@0:a.test",
        "presence": "online",
        "last_active_ago": 7,
    }
    assert len(queue) == 1


def test_a_queue_is_bounded_and_so_is_what_is_taken() -> None:
    queue = EphemeralQueue()
    for number in range(KEYS_MAX + 5):
        queue.put_typing("!r", f"@{number}:a.test", True)
        queue.put_receipt("!r", Receipt(f"@{number}:a.test", READ, "", "$1", 0, 1))
    assert len(queue) == 2 * KEYS_MAX
    assert len(edus(queue, 3)) == 3
    assert len(queue) == 2 * KEYS_MAX - 3
    assert edus(queue, 0) == []
