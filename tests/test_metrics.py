"""What Prometheus reads."""

from __future__ import annotations

import asyncio
import time

from homeserver.metrics import Metrics


def sample(metrics: Metrics, line_start: str) -> float:
    [line] = [line for line in metrics.render().decode().splitlines() if line.startswith(line_start)]
    return float(line.rpartition(" ")[2])


def test_requests_are_counted_by_route_method_and_status() -> None:
    metrics = Metrics()
    for status in (200, 200, 404):
        metrics.observe_request("/v3/sync", "GET", status, 0.02)
    assert sample(metrics, 'http_requests_total{method="GET",route="/v3/sync",status="200"}') == 2
    assert sample(metrics, 'http_requests_total{method="GET",route="/v3/sync",status="404"}') == 1
    assert sample(metrics, 'http_request_seconds_count{method="GET",route="/v3/sync"}') == 3


def test_methods_that_clients_make_up_add_one_series() -> None:
    metrics = Metrics()
    for number in range(50):
        metrics.observe_request("", f"METHOD{number}", 405, 0.001)
    assert sample(metrics, 'http_requests_total{method="other",route="",status="405"}') == 50
    assert "METHOD1" not in metrics.render().decode()


def test_queues_caches_and_commits_show() -> None:
    metrics = Metrics()
    depth = [3]
    metrics.watch_queue("sender", lambda: depth[0])
    metrics.queue_setter("commit")(7)
    metrics.drop_counter("sender")()
    metrics.watch_cache("rooms", lambda: 4096)
    metrics.observe_batch(32, 0.004)
    metrics.count_commit_failure()
    metrics.count_task_restart("sender")
    depth[0] = 5
    assert sample(metrics, 'queue_depth{queue="sender"}') == 5
    assert sample(metrics, 'queue_depth{queue="commit"}') == 7
    assert sample(metrics, 'queue_dropped_total{queue="sender"}') == 1
    assert sample(metrics, 'cache_bytes{cache="rooms"}') == 4096
    assert sample(metrics, "commit_batch_changes_sum") == 32
    assert sample(metrics, "commit_failures_total") == 1
    assert sample(metrics, 'background_task_restarts_total{task="sender"}') == 1


async def test_a_blocked_event_loop_is_seen() -> None:
    metrics = Metrics()
    watch = asyncio.create_task(metrics.watch_event_loop())
    await asyncio.sleep(0)
    time.sleep(0.15)  # blocking the loop is what is measured
    async with asyncio.timeout(5):
        while metrics.stall_max_seconds < 0.1:
            await asyncio.sleep(0.01)
    watch.cancel()
    assert sample(metrics, "event_loop_stall_max_seconds") >= 0.1
