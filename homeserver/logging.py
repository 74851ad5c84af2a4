"""The log: a constant message plus fields, one line each, on standard error, with the request's id.

``structlog.get_logger()`` anywhere; ``configure_logging`` once, at the start. A call below the configured
level costs one empty function call. Fields whose name says that they hold a secret are blanked, in case one
ever slips in; what libraries log through ``logging`` comes out in the same form.
"""

from __future__ import annotations

import logging
import secrets
import sys
from contextvars import ContextVar
from typing import TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from homeserver.config.node import LoggingConfig

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
SECRET_FIELDS = frozenset(
    {
        "access_token",
        "authorization",
        "auth",
        "body",
        "content",
        "event",  # structlog's own message is moved to "message" before this is looked at
        "key",
        "login_token",
        "mac",
        "nonce",
        "password",
        "refresh_token",
        "secret",
        "seed",
        "shared_secret",
        "token",
    }
)
REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
_REMOVED = "[removed]"


def bind_request_id() -> str:
    """Give the current context (a request, or a background job) a new id, which its log lines will carry."""
    request_id = secrets.token_hex(6)
    REQUEST_ID.set(request_id)
    return request_id


def configure_logging(config: LoggingConfig, stream: TextIO | None = None) -> None:
    """Send the log to ``stream`` (standard error by default) as ``config`` says. May be called again."""
    level = LEVELS[config.level]
    output = sys.stderr if stream is None else stream
    processors: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_request_id,
        _message_field,
        _blank_secrets,
        structlog.processors.ExceptionRenderer(),
        _as_json if config.format == "json" else _as_text,
    ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(output),
        cache_logger_on_first_use=True,
    )
    # asyncio's debug lines and aiohttp's access log would double ours.
    root = logging.getLogger()
    root.handlers = [LibraryHandler()]
    root.setLevel(max(level, logging.WARNING))


class LibraryHandler(logging.Handler):
    """What libraries and asyncio log, turned into lines of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger()
        log.log(record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info)


def _add_request_id(logger: WrappedLogger, method: str, fields: EventDict) -> EventDict:
    request_id = REQUEST_ID.get()
    if request_id is not None:
        fields.setdefault("request_id", request_id)
    return fields


def _message_field(logger: WrappedLogger, method: str, fields: EventDict) -> EventDict:
    fields["message"] = fields.pop("event")
    return fields


def _blank_secrets(logger: WrappedLogger, method: str, fields: EventDict) -> EventDict:
    for name in SECRET_FIELDS & fields.keys():
        fields[name] = _REMOVED
    return fields


def _as_json(logger: WrappedLogger, method: str, fields: EventDict) -> str:
    return orjson.dumps(fields, default=str).decode()


def _as_text(logger: WrappedLogger, method: str, fields: EventDict) -> str:
    """``2026-01-31T12:00:00Z warning  message  name=value …``, a traceback on the lines after it."""
    time, level, message = fields.pop("timestamp"), fields.pop("level"), fields.pop("message")
    exception = fields.pop("exception", None)
    values = " ".join(f"{name}={_quote(value)}" for name, value in fields.items())
    line = f"{time} {level:<8} {_quote_control(str(message))}  {values}".rstrip()
    return line if exception is None else f"{line}\n{exception}"


def _quote(value: object) -> str:
    """A value as it is if that is unambiguous, else as JSON: what users choose cannot forge lines."""
    text = value if isinstance(value, str) else str(value)
    return text if text and text.isprintable() and not set(' "=') & set(text) else orjson.dumps(text).decode()


def _quote_control(text: str) -> str:
    return text if text.isprintable() else orjson.dumps(text).decode()
