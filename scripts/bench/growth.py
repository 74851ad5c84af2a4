"""What an operation costs on a node that holds much, against one that holds nothing.

    scripts/bench/growth [--passes N] [--users N] [--rooms N] [--events N] [--limit RATIO]

Two nodes of the same code, of which only one runs at a time: the small one is empty but for what is measured,
the filled one was brought to 10,000 users, 2,000 rooms and 500,000 events before (scripts/bench/fill). Passes
of send, fanout and empty sync alternate between them; the medians and their ratios are printed. The exit
status is 1 if a cost is more than RATIO (1.3) times the small node's, or a rate less than 1/RATIO of it.
BENCH_SHARED, BENCH_PG_BIN and VECHE_PYTHON are as for scripts/bench/run.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import uvloop

CHECKOUT = Path(__file__).resolve().parents[2]
LAUNCHER = CHECKOUT / "scripts" / "bench" / "veche"
SMALL, FILLED = "small", "filled"
SETTLE_S = 3.0
EMPTY_SYNCS = 2000
SIZES = argparse.Namespace(
    send_rooms=8,
    send_concurrency=[1, 32],
    send_seconds=6.0,
    fanout_users=100,
    fanout_messages=20,
    fanout_rate=2.0,
    small_rooms=50,
    small_room_messages=3,
    big_room_members=200,
)
# workload, beginning of the case, metric
MEASURED = (
    ("send", "C=1", "p50_ms"),
    ("send", "C=32", "events_per_s"),
    ("send", "C=32", "p99_ms"),
    ("send", "C=32", "cpu_ms_per_op"),
    ("fanout", "N=", "p50_ms"),
    ("fanout", "N=", "cpu_ms_per_op"),
    ("initial_sync", "empty", "syncs_per_s"),
    ("initial_sync", "empty", "cpu_ms_per_op"),
)
Values = dict[tuple[str, str, str, str], list[float]]
"""``(node, workload, case, metric)`` → a value of each pass."""


def load_bench() -> Any:
    """The benchmark's package, from ../shared or BENCH_SHARED."""
    shared = Path(os.environ.get("BENCH_SHARED") or CHECKOUT.parent / "shared")
    if not (shared / "bench").is_dir():
        sys.exit(f"no benchmark in {shared}: set BENCH_SHARED to the folder that holds bench/")
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(shared))
    for module in ("client", "run", "workloads", "workloads.syncing"):
        importlib.import_module(f"bench.{module}")
    # CPU times tick in steps of 10 ms: a hundred syncs would be two or three of them.
    sys.modules["bench.workloads.syncing"].EMPTY_SYNCS = EMPTY_SYNCS
    return importlib.import_module("bench")


async def fill(workdir: Path, options: argparse.Namespace) -> None:
    """Fill the node in ``workdir``, of which only the database runs."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(CHECKOUT / "scripts" / "bench" / "fill.py"),
        *("--config", str(workdir / "veche.toml")),
        *("--users", str(options.users), "--rooms", str(options.rooms), "--events", str(options.events)),
        cwd=CHECKOUT,
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
    )
    if await process.wait():
        sys.exit("the node could not be filled")


async def measure(options: argparse.Namespace, folder: Path) -> Values:
    """Passes over both nodes in turn."""
    bench = load_bench()
    values: Values = {}

    def emit(node: str, workload: str, case: str, metrics: dict[str, float]) -> None:
        print(f"{node} {workload} {case}: {metrics}", file=sys.stderr, flush=True)
        metrics = {**metrics, "cpu_ms_per_op": metrics["server_cpu_ms_per_op"] + metrics["db_cpu_ms_per_op"]}
        for metric, value in metrics.items():
            values.setdefault((node, workload, case, metric), []).append(value)

    async with bench.client.http_session() as http:
        runs = {
            name: bench.run.Run(
                LAUNCHER, folder / name, http, SIZES, lambda *row, name=name: emit(name, *row)
            )
            for name in (SMALL, FILLED)
        }
        filled = folder / FILLED / "a"
        await runs[FILLED].server.start()
        stop_node_only(filled)
        try:
            await fill(filled, options)
        finally:
            await runs[FILLED].server.stop()
        for _ in range(options.passes):
            for run in runs.values():
                await run.server.start()
                try:
                    await asyncio.sleep(SETTLE_S)
                    for workload in ("send", "fanout", "initial_sync"):
                        await bench.workloads.WORKLOADS[workload](run)
                finally:
                    await run.server.stop()
    return values


def stop_node_only(workdir: Path) -> None:
    """End the node that the launcher started; its database goes on."""
    sys.path.append(os.environ.get("BENCH_LAUNCHERS") or str(CHECKOUT.parent / "shared/bench/launchers"))
    importlib.import_module("common").end_server(workdir)


def report(values: Values, limit: float) -> bool:
    """Print medians and ratios; whether all of them are within the limit."""
    print(f"{'':40} {SMALL:>10} {FILLED:>10} {'ratio':>7}")
    good = True
    for workload, beginning, metric in MEASURED:
        for (node, name, case, measured), small in values.items():
            if (node, name, measured) != (SMALL, workload, metric) or not case.startswith(beginning):
                continue
            before = statistics.median(small)
            after = statistics.median(values[FILLED, name, case, measured])
            ratio = before / after if metric.endswith("_per_s") else after / before
            good &= ratio <= limit
            mark = "" if ratio <= limit else f"  over {limit}"
            print(f"{f'{name} {case} {metric}':40} {before:10.4g} {after:10.4g} {ratio:7.2f}{mark}")
    return good


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--rooms", type=int, default=2_000)
    parser.add_argument("--events", type=int, default=500_000)
    parser.add_argument("--limit", type=float, default=1.3)
    options = parser.parse_args()
    if "BENCH_PG_BIN" not in os.environ:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
        if not found:
            sys.exit("PostgreSQL's initdb was not found: apt-get install postgresql, or set BENCH_PG_BIN")
        os.environ["BENCH_PG_BIN"] = str(found[-1].parent)
    with tempfile.TemporaryDirectory(prefix="growth-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)  # the database runs as another user
        values = uvloop.run(measure(options, folder))
    return 0 if report(values, options.limit) else 1


if __name__ == "__main__":
    sys.exit(main())
