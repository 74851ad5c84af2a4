"""Which other servers this node talks to. Source of the rule: ``federation.mode`` in the configuration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from homeserver.config.federation import FederationConfig
from homeserver.errors import Forbidden

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Servers:
    """Open to all, or closed to all but those named. ``count_refusal`` is told the reason."""

    config: FederationConfig
    count_refusal: Callable[[str], None]

    def permits(self, server_name: str) -> bool:
        """Whether this node shares anything with that server."""
        return self.config.mode == "open" or server_name in self.config.allowed_servers

    def may_ask(self, server_name: str) -> bool:
        """Whether this node sends that server requests: notaries are asked even if nothing is shared."""
        return self.permits(server_name) or server_name in self.config.notaries

    def check(self, server_name: str) -> None:
        """Refuse a server that is not permitted; logged and counted. Raises Forbidden."""
        if not self.permits(server_name):
            self.count_refusal("server_not_allowed")
            log.warning("server refused", server=server_name, mode=self.config.mode)
            raise Forbidden("This server only talks to servers that its administrator has named")
