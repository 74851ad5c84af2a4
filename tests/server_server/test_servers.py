"""Open and closed federation."""

from __future__ import annotations

import pytest

from homeserver.config.federation import FederationConfig
from homeserver.errors import Forbidden
from homeserver.federating.servers import Servers


def test_closed_federation_is_with_named_servers_only() -> None:
    refusals: list[str] = []
    config = FederationConfig(allowed_servers=("a.test",), notaries=("n.test",), hosts={"h.test": "10.0.0.1"})
    servers = Servers(config, refusals.append)
    servers.check("a.test")
    for name in ("b.test", "A.test", "a.test:8448", "n.test", "h.test"):
        with pytest.raises(Forbidden):
            servers.check(name)
    assert refusals == ["server_not_allowed"] * 5
    assert servers.may_ask("n.test") and not servers.may_ask("b.test")


def test_open_federation_is_with_everyone() -> None:
    servers = Servers(FederationConfig(mode="open"), lambda reason: None)
    servers.check("b.test")
    assert servers.may_ask("b.test")


@pytest.mark.parametrize(
    "settings",
    [
        {"allowed_servers": ("not a name",)},
        {"hosts": {"a.test": "http://b.test"}},
        {"hosts": {"a.test": "10.0.0.1:0"}},
        {"notaries": ("[::1",)},
        {"allowed_networks": ("10.0.0.1/8",)},
    ],
)
def test_names_and_networks_that_are_none_are_found_when_the_configuration_is_read(
    settings: dict[str, object],
) -> None:
    with pytest.raises(ValueError):
        FederationConfig(**settings)  # type: ignore[arg-type]
