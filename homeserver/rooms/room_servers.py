"""Which servers an event goes to. Source: Server-Server API, "Transactions", "PDUs"."""

from __future__ import annotations

from collections.abc import Sequence

from federation.identifiers import is_valid_server_name

Servers = Sequence[str]
NOBODY: Servers = ()


def server_of(user_id: str) -> str:
    """The server that a user belongs to; empty for what is no user id."""
    return user_id.partition(":")[2]


def servers_to_tell(before: Servers, after: Servers) -> Servers:
    """The servers that were in the room before an event or are after it."""
    if before is after or before == after:  # all but a few events
        return after
    return tuple({**dict.fromkeys(before), **dict.fromkeys(after)})


def with_target(servers: Servers, user_id: str, server_suffix: str) -> Servers:
    """And the server of somebody whose invitation or knock ends, though nobody of it is in the room."""
    server = server_of(user_id)
    if user_id.endswith(server_suffix) or server in servers or not is_valid_server_name(server):
        return servers
    return (*servers, server)


def without(servers: Servers, server: str) -> Servers:
    """All but the one that an event came from."""
    return tuple(each for each in servers if each != server)
