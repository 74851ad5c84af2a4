"""What the node says about itself follows its configuration; and OpenID tokens."""

from __future__ import annotations

from tests.accounts.conftest import Serve
from tests.accounts.server import SECRET, AccountServices
from tests.api.client import Api, refused

WELL_KNOWN = "/.well-known/matrix/{}"


async def test_versions_reach_from_r0_to_the_specification_served(api: Api) -> None:
    versions = (await api.get("/versions"))["versions"]
    assert versions[0] == "r0.6.1"
    assert versions[1:] == [f"v1.{minor}" for minor in range(1, 20)]
    server = (await api.get("/_matrix/federation/v1/version"))["server"]
    assert server["name"] == "Veche"


async def test_well_known_files_are_published_as_configured(serve: Serve) -> None:
    contact = {"role": "m.role.admin", "matrix_id": "@alice:veche.test"}
    server = {
        "public_baseurl": "https://matrix.veche.test/",
        "public_federation_address": "matrix.veche.test:443",
    }
    page = "https://veche.test/help"
    _, api = await serve(server=server, support={"contacts": [contact], "support_page": page})
    client = await api.get(WELL_KNOWN, "client")
    assert client == {"m.homeserver": {"base_url": "https://matrix.veche.test"}}
    assert await api.get(WELL_KNOWN, "server") == {"m.server": "matrix.veche.test:443"}
    assert await api.get(WELL_KNOWN, "support") == {"contacts": [contact], "support_page": page}


async def test_what_is_not_configured_is_not_published(api: Api) -> None:
    for name in ("client", "server", "support"):
        with refused(404, "M_NOT_FOUND"):
            await api.get(WELL_KNOWN, name)


async def test_capabilities_tell_what_the_user_may_do(api: Api) -> None:
    user, admin = await api.register(), await api.register_admin(SECRET)
    capabilities = (await user.get("/v3/capabilities"))["capabilities"]
    assert capabilities["m.room_versions"]["default"] == "12"
    assert set(capabilities["m.room_versions"]["available"]) == {str(number) for number in range(1, 13)}
    assert capabilities["m.3pid_changes"] == {"enabled": False}
    assert await user.get("/v3/account/3pid") == {"threepids": []}
    assert "m.account_moderation" not in capabilities
    moderation = (await admin.get("/v3/capabilities"))["capabilities"]["m.account_moderation"]
    assert moderation == {"suspend": True, "lock": True}


async def test_openid_tokens_name_their_user_for_a_while(api: Api, services: AccountServices) -> None:
    user, other = await api.register(), await api.register()
    answer = await user.post("/v3/user/{}/openid/request_token", user.user_id)
    assert (answer["token_type"], answer["matrix_server_name"]) == ("Bearer", "veche.test")
    assert await services.openid.user_of(answer["access_token"]) == user.user_id
    with refused(401, "M_UNKNOWN_TOKEN"):  # it opens nothing else
        await api.with_token(answer["access_token"]).get("/v3/account/whoami")
    services.clock.ms += answer["expires_in"] * 1000
    assert await services.openid.user_of(answer["access_token"]) is None
    with refused(403, "M_FORBIDDEN"):
        await user.post("/v3/user/{}/openid/request_token", other.user_id)


async def test_health_is_the_databases(api: Api, services: AccountServices) -> None:
    answer = await api.exchange("GET", "/health")
    assert (answer.status, answer.json) == (200, {"status": "ok"})
    await services.pool.close()
    assert (await api.exchange("GET", "/health")).status == 503
