"""Set up companies on this machine, run them, and stop them all together."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import aiohttp
from rich.console import Console
from rich.table import Table

from scripts.companies.authority import Authority
from scripts.companies.company import NAMES, PEOPLE, Company
from scripts.companies.people import Refused, log_in, meet

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 60.0
POLL_S = 0.1
REQUEST_TIMEOUT_S = 60.0

console = Console()


class CannotRun(Exception):
    """A node does not start, or has ended."""


def main() -> int:
    options = _options()
    home = options.home.absolute()
    home.mkdir(parents=True, exist_ok=True)
    companies = [
        Company(name, home / name, options.client_port + number, options.federation_port + number)
        for number, name in enumerate(NAMES[: options.count])
    ]
    authority = Authority(home)
    for company in companies:
        company.set_up(authority, companies)
    try:
        asyncio.run(_run(companies))
    except (CannotRun, Refused, aiohttp.ClientError) as error:
        console.print(f"scripts/network: {error}", style="red", soft_wrap=True)
        return 1
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/network", description=__doc__)
    parser.add_argument(
        "count", nargs="?", type=int, default=3, choices=range(1, len(NAMES) + 1), help="how many companies"
    )
    parser.add_argument("--home", type=Path, required=True, help="the folder for their data")
    parser.add_argument("--client-port", type=int, default=8101, help="of the first company; others follow")
    parser.add_argument("--federation-port", type=int, default=8451, help="likewise, for other servers")
    return parser.parse_args()


async def _run(companies: Sequence[Company]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    nodes: dict[Company, subprocess.Popen[bytes]] = {}
    until_stopped = asyncio.ensure_future(stop.wait())
    try:
        with console.status("Starting the companies' nodes"):
            for company in companies:
                nodes[company] = company.serve()
        running = asyncio.ensure_future(_serve(companies, nodes))
        await asyncio.wait((running, until_stopped), return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    finally:
        until_stopped.cancel()
        await _stop(nodes)


async def _serve(companies: Sequence[Company], nodes: dict[Company, subprocess.Popen[bytes]]) -> None:
    """Make the users and their room, tell of them, and watch the nodes. Raises CannotRun if one ends."""
    timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        for company in companies:
            await until_answering(http, company, nodes[company])
        people = [await log_in(http, company, name) for company in companies for name in PEOPLE]
        console.print(_table(companies))
        try:
            alias = await meet(people)
        except Refused as refusal:
            console.print(f"The shared room could not be made: {refusal}", style="yellow", soft_wrap=True)
        else:
            console.print(f"All of them are in the room [bold]{alias}[/bold]. Ctrl-C stops the nodes.")
    while True:
        for company, node in nodes.items():
            if node.poll() is not None:
                raise CannotRun(f"{company.name} has ended: see {company.log_file}")
        await asyncio.sleep(POLL_S)


async def until_answering(
    http: aiohttp.ClientSession, company: Company, node: subprocess.Popen[bytes]
) -> None:
    """Return once a node answers. Raises CannotRun if it ends, or does not in time."""
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            while True:
                if node.poll() is not None:
                    raise CannotRun(f"{company.name} did not start: see {company.log_file}")
                with contextlib.suppress(aiohttp.ClientError):
                    async with http.get(f"{company.url}/_matrix/client/versions") as response:
                        if response.status == 200:
                            return
                await asyncio.sleep(POLL_S)
    except TimeoutError as cause:
        raise CannotRun(f"{company.name} does not answer: see {company.log_file}") from cause


def _table(companies: Sequence[Company]) -> Table:
    table = Table(title="Log in with any Matrix client at")
    for heading in ("Server", "User", "Password"):
        table.add_column(heading, overflow="fold")
    for company in companies:
        for name in PEOPLE:
            first = name == PEOPLE[0]
            table.add_row(
                company.url if first else "",
                company.user_id(name),
                company.password(name),
                end_section=not first,
            )
    return table


async def _stop(nodes: dict[Company, subprocess.Popen[bytes]]) -> None:
    with console.status("Stopping the companies' nodes"):
        for node in nodes.values():
            if node.poll() is None:
                node.send_signal(signal.SIGTERM)
        for company, node in nodes.items():
            try:
                await asyncio.to_thread(node.wait, STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                console.print(f"{company.name} does not stop: it is killed", style="red")
                node.kill()
                node.wait()
    console.print("All nodes have stopped; the next run goes on with their data.")


if __name__ == "__main__":
    sys.exit(main())
