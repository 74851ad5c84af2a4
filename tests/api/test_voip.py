"""Credentials for TURN servers: Client-Server API, "Voice over IP"."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode

import pytest

from homeserver.accounts.turn_servers import TurnServers
from homeserver.config.load import ConfigError, parse_config
from homeserver.config.rooms import VoipConfig
from homeserver.errors import Forbidden
from homeserver.requester import Requester
from tests.api.client import User, refused

ALICE = Requester(user_id="@alice:veche.test", user_nid=1, device_id="PHONE", device_nid=1, token_nid=1)
URI = "turn:turn.example.com:3478?transport=udp"


def test_the_turn_server_can_check_credentials() -> None:
    config = VoipConfig(turn_uris=(URI,), turn_shared_secret="shared", turn_lifetime_ms=60_000)
    given = TurnServers(config, clock=lambda: 1_000_000).credentials(ALICE)
    assert (given["username"], given["uris"], given["ttl"]) == ("1060:@alice:veche.test", [URI], 60)
    expected = hmac.new(b"shared", given["username"].encode(), hashlib.sha1).digest()
    assert b64decode(given["password"]) == expected
    assert "shared" not in repr(config)
    with pytest.raises(Forbidden):
        TurnServers(VoipConfig()).credentials(ALICE)


@pytest.mark.parametrize("setting", ['turn_uris = ["turn.example.com"]', f'turn_uris = ["{URI}"]'])
def test_a_wrong_setting_is_told(setting: str) -> None:
    with pytest.raises(ConfigError, match="turn_"):
        parse_config(f'[server]\nserver_name = "veche.test"\n[voip]\n{setting}\n', "test")


async def test_without_turn_servers_clients_are_told_so(alice: User) -> None:
    with refused(403, "M_FORBIDDEN"):
        await alice.get("/v3/voip/turnServer")
