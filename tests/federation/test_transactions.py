"""The body of a transaction is canonical JSON, of parts that are not encoded again."""

from __future__ import annotations

import orjson
from hypothesis import given
from hypothesis import strategies as st

from federation.canonical import encode_canonical
from federation.transactions import encode_transaction, transaction_id

OBJECTS = st.dictionaries(st.text(max_size=5), st.text(max_size=5) | st.integers(-5, 5), max_size=3)


@given(pdus=st.lists(OBJECTS, max_size=4), edus=st.lists(OBJECTS, max_size=4))
def test_a_transaction_is_canonical_json(
    pdus: list[dict[str, object]], edus: list[dict[str, object]]
) -> None:
    body = encode_transaction(
        "a.test", 12, [encode_canonical(pdu) for pdu in pdus], [encode_canonical(edu) for edu in edus]
    )
    whole: dict[str, object] = {"origin": "a.test", "origin_server_ts": 12, "pdus": pdus}
    if edus:
        whole["edus"] = edus
    assert orjson.loads(body) == whole
    assert body == encode_canonical(whole)


def test_an_id_is_of_the_content_and_of_the_mark() -> None:
    same = transaction_id("1 2", [b"{}"], [])
    assert transaction_id("1 2", [b"{}"], []) == same
    others = [
        transaction_id("1 3", [b"{}"], []),
        transaction_id("1 2", [], [b"{}"]),
        transaction_id("1 2", [b"{}", b"{}"], []),
        transaction_id("1 2", [b"{}{}"], []),
    ]
    assert len({same, *others}) == 5
