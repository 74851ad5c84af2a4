"""``veche init``, ``config``, ``version``: what they make, print and refuse."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from homeserver.cli.main import main
from homeserver.config.load import load_config
from homeserver.config.secrets import load_signing_key


def init(folder: Path, *arguments: str) -> int:
    return main(["init", "--config", str(folder / "veche.toml"), *arguments])


def test_a_new_server_gets_a_configuration_and_keys_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = []
    for name in ("a", "b"):
        folder = tmp_path / name
        assert init(folder, "--server-name", "company.test") == 0
        config = load_config(folder / "veche.toml")
        assert config.server.server_name == "company.test"
        assert config.registration.shared_secret is not None
        assert len(config.registration.shared_secret) >= 40
        for secret in ("signing.key", "registration.secret"):
            assert stat.S_IMODE((folder / secret).stat().st_mode) == 0o600
        keys.append(load_signing_key(Path(config.server.signing_key_file)).seed_base64)
    assert keys[0] != keys[1]
    shown = capsys.readouterr().out
    assert "veche user add --admin" in shown
    assert keys[0] not in shown

    assert main(["config", "check", "--config", str(tmp_path / "a" / "veche.toml")]) == 0
    assert "is fine: company.test" in capsys.readouterr().out


def test_nothing_is_ever_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert init(tmp_path, "--server-name", "company.test") == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert init(tmp_path, "--server-name", "other.test") == 1
    assert "this server has been set up" in capsys.readouterr().err
    (tmp_path / "veche.toml").unlink()
    assert init(tmp_path, "--server-name", "other.test") == 1  # the keys are still there
    del before["veche.toml"]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("company", "has no dot"),
        ("Company.test", "did you mean 'company.test'"),
        ("https://company.test/", "did you mean 'company.test'"),
        ("@alice:company.test@company.test", "has no user in it"),
        ("127.0.0.1", "is an IP address"),
        ("[::1]:8448", "is an IP address"),
        ("company.test:8448", "port"),
        ("example.com", "reserved for examples"),
        ("m\u00fcnchen.de", "xn--mnchen-3ya.de"),
        ("company..test", "is not a domain"),
        ("-company.test", "is not a domain"),
        ("comp any.test", "is not a domain"),
        ("", "is not a domain"),
        ("a" * 64 + ".test", "is not a domain"),
        (".".join(["abcdefghi"] * 24), "is not a domain"),
    ],
)
def test_names_that_would_be_regretted_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, said: str
) -> None:
    assert init(tmp_path, f"--server-name={name}") == 1
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["company.test", "chat.company.co.uk", "xn--mnchen-3ya.de", "localhost", "localhost:8448"]
)
def test_good_names_are_taken(tmp_path: Path, name: str) -> None:
    assert init(tmp_path, "--server-name", name) == 0


@pytest.mark.parametrize("name", ["127.0.0.1:8448", "[::1]", "company", "company.test:8448"])
def test_whoever_insists_gets_what_the_specification_permits(tmp_path: Path, name: str) -> None:
    assert init(tmp_path, "--server-name", name, "--force") == 0


@pytest.mark.parametrize("name", ["Company.test", "comp any.test", "m\u00fcnchen.de"])
def test_insisting_does_not_help_wrong_names(tmp_path: Path, name: str) -> None:
    assert init(tmp_path, "--server-name", name, "--force") == 1


def test_data_and_address_may_be_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listen = ("--listen", "[::1]:8108")
    assert init(tmp_path, "--server-name", "localhost", "--data", str(tmp_path / "d"), *listen) == 0
    config = load_config(tmp_path / "veche.toml")
    assert config.server.data_dir == str(tmp_path / "d")
    assert (config.listeners[0].address, config.listeners[0].port) == ("::1", 8108)

    assert init(tmp_path / "b", "--server-name", "localhost", "--listen", "everywhere") == 1
    assert "such as 127.0.0.1:8008" in capsys.readouterr().err
    assert init(tmp_path / "b", "--server-name", "localhost", "--listen", "127.0.0.1:80080") == 1
    assert not (tmp_path / "b").exists()


def test_checking_finds_keys_that_are_missing_or_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert init(tmp_path, "--server-name", "company.test") == 0
    key = tmp_path / "signing.key"
    seed = key.read_text().split()[2]
    key.write_text(f"ed25519 a {seed[:-4]}\n")
    check = ["config", "check", "--config", str(tmp_path / "veche.toml")]
    assert main(check) == 1
    said = capsys.readouterr().err
    assert "is no signing key" in said
    assert seed[:-4] not in said
    key.unlink()
    assert main(check) == 1
    assert "Restore it from your copy" in capsys.readouterr().err


def test_the_sample_and_the_version_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "sample"]) == 0
    assert capsys.readouterr().out.startswith("# Veche's configuration.")
    assert main(["version"]) == 0
    assert capsys.readouterr().out.startswith("veche ")


def test_a_missing_configuration_says_how_to_make_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", "check", "--config", str(tmp_path / "veche.toml")]) == 1
    assert "veche init --server-name NAME" in capsys.readouterr().err
