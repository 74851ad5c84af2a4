"""The log: one line each, safe to read, silent below its level."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from homeserver.config.node import LoggingConfig
from homeserver.logging import REQUEST_ID, bind_request_id, configure_logging


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    handlers, level = logging.getLogger().handlers, logging.getLogger().level
    yield
    logging.getLogger().handlers, logging.getLogger().level = handlers, level
    structlog.reset_defaults()


def lines_of(output: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.getvalue().splitlines()]


def json_log(level: str = "info") -> io.StringIO:
    output = io.StringIO()
    configure_logging(LoggingConfig(level=level, format="json"), output)  # type: ignore[arg-type]
    return output


async def test_lines_carry_the_request_that_they_belong_to() -> None:
    output = json_log()
    log = structlog.get_logger()

    async def request() -> str:
        request_id = bind_request_id()
        log.info("served", status=200)
        return request_id

    ids = [await asyncio.create_task(request()) for _ in range(2)]
    log.info("idle")

    first, second, outside = lines_of(output)
    assert [first["request_id"], second["request_id"]] == ids
    assert ids[0] != ids[1]
    assert first["message"] == "served" and first["status"] == 200 and first["level"] == "info"
    assert "request_id" not in outside
    assert REQUEST_ID.get() is None


def test_nothing_is_written_below_the_level() -> None:
    output = json_log("warning")
    log = structlog.get_logger()
    log.info("too quiet")
    log.debug("quieter")
    log.warning("heard")
    assert [line["message"] for line in lines_of(output)] == ["heard"]


@pytest.mark.parametrize("name", ["access_token", "password", "content", "shared_secret"])
def test_secrets_are_blanked(name: str) -> None:
    output = json_log()
    structlog.get_logger().info("login", **{name: "hunter2"})
    assert "hunter2" not in output.getvalue()
    assert lines_of(output)[0][name] == "[removed]"


def test_a_failure_shows_its_traceback() -> None:
    output = json_log()
    try:
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger().exception("failed")
    [line] = lines_of(output)
    assert line["level"] == "error"
    assert "ValueError: broken" in line["exception"]


def test_libraries_log_in_the_same_form() -> None:
    output = json_log()
    logging.getLogger("asyncio").warning("slow %s", "callback")
    [line] = lines_of(output)
    assert (line["message"], line["logger"], line["level"]) == ("slow callback", "asyncio", "warning")


def test_console_lines_cannot_be_forged() -> None:
    output = io.StringIO()
    configure_logging(LoggingConfig(format="console"), output)
    structlog.get_logger().info(
        "profile changed", name="Bob\n2026-01-01T00:00:00Z error forged", user="@bob:x.y"
    )
    assert output.getvalue().count("\n") == 1
    assert r'name="Bob\n2026' in output.getvalue()
    assert "user=@bob:x.y" in output.getvalue()
