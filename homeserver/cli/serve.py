"""``veche serve``: the node, until it is told to stop."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import uvloop

from homeserver.app import serve as serve_node
from homeserver.config.load import load_config
from homeserver.logging import configure_logging

# Requests make thousands of objects, and hardly ever cycles of them: Python's own thresholds, made for small
# programs, cost a tenth of the CPU, and look through all that is in memory again and again.
GC_THRESHOLDS = (10_000, 20, 50)


def serve(config_path: Path) -> None:
    """Run the node until SIGTERM or SIGINT. Raises ConfigError and what starting the database raises."""
    config = load_config(config_path)
    configure_logging(config.logging)
    gc.freeze()  # the modules are there for good
    gc.set_threshold(*GC_THRESHOLDS)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve_node(config))
