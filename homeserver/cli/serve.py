"""``veche serve``: the node, until it is told to stop."""

from __future__ import annotations

import asyncio
from pathlib import Path

import uvloop

from homeserver.app import serve as serve_node
from homeserver.config.load import load_config
from homeserver.logging import configure_logging


def serve(config_path: Path) -> None:
    """Run the node until SIGTERM or SIGINT. Raises ConfigError and what starting the database raises."""
    config = load_config(config_path)
    configure_logging(config.logging)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve_node(config))
