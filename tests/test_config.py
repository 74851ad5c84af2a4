"""The configuration file: what it means, and what is said when it is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from homeserver.config.load import ConfigError, load_config, parse_config
from homeserver.config.node import ListenerConfig
from homeserver.config.rates import RateLimit
from homeserver.config.sections import Config

NAMED = '[server]\nserver_name = "company.test"\n'


def test_a_name_is_all_that_is_needed() -> None:
    config = parse_config(NAMED, "veche.toml")
    assert config.server.server_name == "company.test"
    assert config.registration.mode == "closed"
    assert config.federation.mode == "closed"
    assert [listener.address for listener in config.listeners] == ["127.0.0.1", "127.0.0.1"]


def test_settings_are_read() -> None:
    config = parse_config(
        NAMED
        + """
        [[listeners]]
        address = "::1"
        port = 0
        purposes = ["client", "metrics"]
        [rate_limits]
        messages = { per_second = 2, burst = 5 }
        [federation.hosts]
        "partner.test" = "127.0.0.1:8448"
        [[support.contacts]]
        role = "m.role.admin"
        email_address = "admin@company.test"
        """,
        "veche.toml",
    )
    assert config.listeners == (ListenerConfig(address="::1", port=0, purposes=("client", "metrics")),)
    assert config.rate_limits.messages == RateLimit(per_second=2, burst=5)
    assert config.federation.hosts == {"partner.test": "127.0.0.1:8448"}
    assert config.support.contacts[0].email_address == "admin@company.test"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[server]\nserver_nam = 'x.y'",
            r"\[server\] unknown setting 'server_nam'; did you mean 'server_name'",
        ),
        ("[sever]", "unknown section 'sever'; did you mean 'server'"),
        (
            NAMED + "[rooms]\nzzz = 1",
            r"\[rooms\] unknown setting 'zzz'; there are: default_version, creation",
        ),
        (
            NAMED + "[[listeners]]\nprot = 1",
            r"\[listeners\[0\]\] unknown setting 'prot'; did you mean 'port'",
        ),
        (
            NAMED + "[rate_limits]\njoins = {per_secnd = 1, burst = 1}",
            r"\[rate_limits.joins\] unknown setting 'per_secnd'; did you mean 'per_second'",
        ),
        ("[server]\nserver_name = 3", r"\[server\] server_name: expected str, got int"),
        ("[server]", r"\[server\] server_name is missing"),
        ("", "server is missing"),
        ("server = 3", "server: expected a table, got int"),
        (
            NAMED + "[logging]\nlevel = 'warn'",
            r"\[logging\] level: there is no 'warn'; did you mean 'warning'\?",
        ),
        (NAMED + "[auth]\nhash_threads = 0", r"\[auth\] hash_threads: expected int >= 1"),
        (
            NAMED + "[[listeners]]\ntls_key = 'k'",
            r"\[listeners\[0\]\] tls_certificate and tls_key belong together",
        ),
        (
            NAMED + "[[listeners]]\naddress = 'localhost'",
            r"\[listeners\[0\]\] 'localhost' does not appear to be",
        ),
        (
            NAMED + "[[listeners]]\ntrusted_proxies = ['10.0.0.1/8']",
            r"\[listeners\[0\]\] 10.0.0.1/8 has host bits",
        ),
        (NAMED + "[database]\nurl = 'mysql://db'", r"\[database\] url must start with postgresql://"),
        (NAMED + "[database]\nconnections_min = 20", r"\[database\] connections_min is larger"),
        (NAMED + "[[support.contacts]]\nrole = 'm.role.admin'", "needs a matrix_id or an email_address"),
        (NAMED + "[registration]\nshared_secret = 'a'\nshared_secret_file = 'b'", "not both"),
        ("[server", "is not TOML"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_the_way_out(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=rf"^/etc/veche.toml: .*{said}"):
        parse_config(text, "/etc/veche.toml")


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "veche.toml"
    path.write_text(
        NAMED.rstrip() + '\ndata_dir = "d"\nsigning_key_file = "/keys/signing.key"\n'
        '[[listeners]]\ntls_certificate = "c.pem"\ntls_key = "k.pem"\n'
    )
    config = load_config(path)
    assert config.server.data_dir == str(tmp_path / "d")
    assert config.server.signing_key_file == "/keys/signing.key"
    assert config.listeners[0].tls_certificate == str(tmp_path / "c.pem")


def test_a_secret_is_read_from_its_file_and_never_shown(tmp_path: Path) -> None:
    path = tmp_path / "veche.toml"
    path.write_text(NAMED + '[registration]\nshared_secret_file = "registration.secret"\n')
    with pytest.raises(ConfigError, match=r"\[registration\] shared_secret_file: .* cannot be read"):
        load_config(path)

    (tmp_path / "registration.secret").write_text("\n")
    with pytest.raises(ConfigError, match="is empty"):
        load_config(path)

    (tmp_path / "registration.secret").write_text("hush\n")
    config = load_config(path)
    assert config.registration.shared_secret == "hush"
    assert "hush" not in repr(config)


def test_files_that_cannot_be_read_say_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such file; make one with `veche init"):
        load_config(tmp_path / "veche.toml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_config(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b"# \xe9")
    with pytest.raises(ConfigError, match="is not UTF-8, at byte 2"):
        load_config(tmp_path / "latin.toml")


def test_sections_cannot_be_changed() -> None:
    config: Config = parse_config(NAMED, "veche.toml")
    with pytest.raises(AttributeError):
        config.server.server_name = "other.test"  # type: ignore[misc]
