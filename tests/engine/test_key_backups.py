"""What clients seal in a backup comes back as it was, whatever JSON it is.

The documents know answers with objects only, so this asks the service, not the API.
"""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from homeserver.encryption.key_backup import KeyBackups
from tests.engine.conftest import Engine

ROOM = "!plans:veche.test"


def session(sealed: object) -> dict[str, Any]:
    return {"first_message_index": 3, "forwarded_count": 0, "is_verified": False, "session_data": sealed}


SEALED = ["opaque", "", "\x00 and 🙂", 2**63, -1, 0.5, True, None, [], ["a", [None]], {}, {"a": {"b": 1}}]


@pytest.mark.parametrize("sealed", SEALED)
async def test_sealed_data_is_kept_as_it_is(engine: Engine, sealed: object) -> None:
    backups, alice = KeyBackups(engine.database.pool), await engine.new_user()
    version = await backups.create(alice, "org.example.backup", sealed)
    described = {"algorithm": "org.example.backup", "count": 0, "etag": "0", "version": version}
    assert await backups.get(alice, None) == {**described, "auth_data": sealed}
    await backups.update(alice, version, "org.example.backup", [sealed])
    assert await backups.get(alice, version) == {**described, "auth_data": [sealed]}

    body = orjson.dumps({"sessions": {"s": session(sealed), "t": session([sealed])}})
    await backups.put(alice, version, body, room_id=ROOM)
    one = await backups.session(alice, version, ROOM, "s")
    assert orjson.loads(one) == session(sealed)
    every = b"".join([piece async for piece in await backups.sessions(alice, version)])
    assert orjson.loads(every) == {
        "rooms": {ROOM: {"sessions": {"s": session(sealed), "t": session([sealed])}}}
    }


async def test_a_better_key_replaces_sealed_data_of_another_kind(engine: Engine) -> None:
    backups, alice = KeyBackups(engine.database.pool), await engine.new_user()
    version = await backups.create(alice, "org.example.backup", "opaque")
    for sealed, index in (("first", 3), ({"better": 1}, 2), ("worse", 4)):
        body = orjson.dumps({**session(sealed), "first_message_index": index})
        await backups.put(alice, version, body, room_id=ROOM, session_id="s")
    kept = orjson.loads(await backups.session(alice, version, ROOM, "s"))
    assert (kept["session_data"], kept["first_message_index"]) == ({"better": 1}, 2)
