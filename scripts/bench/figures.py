"""The figures to reach against Synapse, held against a result of ../shared/bench.

    python scripts/bench/figures.py results/comparison.json [results/comparison-2000-rooms.json]

The second result is of the workload `sliding_sync` for a user in ten times as many rooms. Prints one line a
figure: what was measured, the ratio, what is to be reached. Exits with 1 if one was missed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

Medians = dict[tuple[str, str, str], dict[str, float]]
"""``(workload, case, metric)`` → target → median of the passes."""

GROWTH_MAX = 1.5  # of our time, with ten times as many rooms
CPU = "cpu"  # server plus database
CPU_B = "cpu_b"  # the same of the second server, which joins, or receives
SUMS = {
    "server_cpu_ms_per_op": CPU,
    "db_cpu_ms_per_op": CPU,
    "server_b_cpu_ms_per_op": CPU_B,
    "db_b_cpu_ms_per_op": CPU_B,
}


@dataclass(frozen=True)
class Figure:
    """``times`` as good as Synapse (more of a rate, a fraction of a cost), or at most ``limit``."""

    name: str
    workload: str
    case: str
    metric: str
    times: float = 0
    limit: float = 0


FIGURES = (
    Figure("send, 32 senders: events/s", "send", "C=32", "events_per_s", 20),
    Figure("send, 32 senders: CPU", "send", "C=32", CPU, 15),
    Figure("send, 32 senders: p99", "send", "C=32", "p99_ms", 15),
    Figure("send, 1 sender: p50", "send", "C=1", "p50_ms", 10),
    Figure("fanout: p50", "fanout", "N=", "p50_ms", 20),
    Figure("fanout: CPU", "fanout", "N=", CPU, 20),
    Figure("register: users/s", "join_local_big", "register", "users_per_s", 5),
    Figure("join: joins/s", "join_local_big", "join", "joins_per_s", 20),
    Figure("join: CPU", "join_local_big", "join", CPU, 20),
    Figure("initial sync, full: time", "initial_sync", "full", "first_s", 15),
    Figure("initial sync, full: CPU", "initial_sync", "full", CPU, 15),
    Figure("initial sync, lazy: time", "initial_sync", "lazy", "first_s", 15),
    Figure("initial sync, lazy: CPU", "initial_sync", "lazy", CPU, 15),
    Figure("empty sync: syncs/s", "initial_sync", "empty incremental", "syncs_per_s", 8),
    Figure("empty sync: CPU", "initial_sync", "empty incremental", CPU, 8),
    Figure("sliding sync, first page: p50", "sliding_sync", "first page", "p50_ms", 10),
    Figure("sliding sync, first page: CPU", "sliding_sync", "first page", CPU, 10),
    Figure("sliding sync, empty: syncs/s", "sliding_sync", "empty incremental", "syncs_per_s", 12),
    Figure("sliding sync, empty: CPU", "sliding_sync", "empty incremental", CPU, 12),
    Figure("page back: events/s", "messages", "page back", "events_per_s", 6),
    Figure("page back: CPU", "messages", "page back", CPU, 6),
    Figure("federated join: usable", "federation_join", "M=", "usable_s", 4),
    Figure("federated join: CPU", "federation_join", "M=", CPU_B, 5),
    Figure("federated burst: events/s", "federation_send", "burst", "events_per_s", 25),
    Figure("federated burst: receiving CPU", "federation_send", "burst", CPU_B, 20),
    Figure("federated, steady: p50", "federation_send", "steady", "p50_ms", 6),
    Figure("first keys of a device: uploads/s", "keys_upload", "first", "uploads_per_s", 8),
    Figure("further keys: uploads/s", "keys_upload", "10 keys, C=32", "uploads_per_s", 8),
    Figure("keys of 100 users: queries/s", "keys_query", "100 users", "queries_per_s", 8),
    Figure("keys of 100 devices, claimed by 8: /s", "keys_claim", "100 devices, C=8", "claims_per_s", 8),
    # nobody asks for this one: a fifth of what it takes here is the benchmark's client
    Figure("the same, one at a time: /s", "keys_claim", "100 devices, C=1", "claims_per_s", 8),
    Figure("messages to 100 devices: requests/s", "to_device", "send to 100, C=32", "requests_per_s", 8),
    Figure("messages to devices read: messages/s", "to_device", "read", "messages_per_s", 8),
    Figure("whoami: requests/s", "login_whoami", "whoami", "requests_per_s", 5),
    Figure("start on a filled database (s)", "memory_startup", "", "startup_s", limit=1.0),
    Figure("memory after the workloads (MB)", "memory_startup", "", "rss_after_mb", limit=150),
)


def medians(summary: list[dict]) -> Medians:
    """The medians of a result's summary, with the CPU of server and database added up."""
    found: Medians = {}
    for entry in summary:
        place = entry["workload"], entry["case"]
        values = {target: each["median"] for target, each in entry["targets"].items()}
        found[*place, entry["metric"]] = values
        if (sum_name := SUMS.get(entry["metric"])) is not None:
            total = found.setdefault((*place, sum_name), {})
            for target, value in values.items():
                total[target] = total.get(target, 0.0) + value
    return found


def lines(found: Medians) -> Iterator[tuple[str, bool]]:
    """Each figure that was measured on both servers as text, and whether it was reached."""
    for figure in FIGURES:
        for (workload, case, metric), values in found.items():
            if (workload, metric) != (figure.workload, figure.metric) or not case.startswith(figure.case):
                continue
            if "veche" not in values:
                continue
            veche = values["veche"]
            synapse = values.get("synapse")
            before = f"{synapse:10.4g}" if synapse is not None else f"{'-':>10}"
            if figure.limit:
                reached = veche <= figure.limit
                wanted = f"at most {figure.limit:g}"
                ratio = ""
            elif synapse is None:
                continue
            else:
                better = veche / synapse if metric.endswith("_per_s") else synapse / max(veche, 1e-9)
                reached = better >= figure.times
                wanted = f"at least {figure.times:g}x"
                ratio = f"{better:.1f}x"
            mark = "reached" if reached else "MISSED"
            yield f"{figure.name:34} {before} {veche:10.4g} {ratio:>8}  {wanted:14} {mark}", reached


def growth(few: Medians, many: Medians) -> Iterator[tuple[str, bool]]:
    """How the time of a first page of sliding sync grows with the rooms that the user is in."""
    place = "sliding_sync", "first page", "p50_ms"
    if place not in few or place not in many:
        return
    before, after = few[place]["veche"], many[place]["veche"]
    ratio = after / max(before, 1e-9)
    mark = "reached" if ratio < GROWTH_MAX else "MISSED"
    title = "first page, 2,000 rooms for 200"
    yield (
        f"{title:34} {before:10.4g} {after:10.4g} {ratio:7.2f}x  below {GROWTH_MAX:g}x     {mark}",
        ratio < GROWTH_MAX,
    )


def main() -> int:
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    found, *more = (medians(json.loads(Path(name).read_text())["summary"]) for name in sys.argv[1:])
    print(f"{'':34} {'Synapse':>10} {'Veche':>10} {'ratio':>8}  to reach")
    missed = 0
    for text, reached in (*lines(found), *(each for many in more for each in growth(found, many))):
        print(text)
        missed += not reached
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
