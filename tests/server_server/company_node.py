"""A node that federates: over TLS, with servers whose addresses it is told, and with nobody else."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from tests.node import Node
from tests.postgres import TestCluster, make_data_dir
from tests.server_server.certificates import Authority


@asynccontextmanager
async def company_node(
    postgres: TestCluster,
    authority: Authority,
    name: str,
    port: int,
    hosts: Mapping[str, str],
    *more_settings: Mapping[str, Mapping[str, Any]],
    purposes: Sequence[str] = ("federation",),
) -> AsyncIterator[Node]:
    """Running, on a database of its own; ``port`` is for other servers. Whoever stops it stops it before."""
    certificate = authority.certificate(name)
    settings: dict[str, Mapping[str, Any]] = {
        "federation": {
            "hosts": dict(hosts),
            "ca_file": str(authority.ca_file),
            "allowed_servers": sorted({name, *hosts}),
        }
    }
    for more in more_settings:
        for section, values in more.items():
            settings[section] = {**settings.get(section, {}), **values}
    listener = {
        "address": "127.0.0.1",
        "port": port,
        "purposes": list(purposes),
        "tls_certificate": str(certificate.certificate_file),
        "tls_key": str(certificate.key_file),
    }
    async with AsyncExitStack() as stack:
        folder, url = make_data_dir(), await postgres.create_database()
        stack.callback(shutil.rmtree, folder)
        stack.push_async_callback(postgres.drop_database, url)
        node = Node(folder, url, settings, server_name=name, more_listeners=[listener])
        stack.push_async_callback(node.kill)
        await node.start()
        yield node
