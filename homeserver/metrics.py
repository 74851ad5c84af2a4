"""What Prometheus reads at ``/metrics``: requests, commits, queues, caches, and the event loop's stalls.

One ``Metrics`` a process, made by the composition root; services are handed the bound methods that they call.
Labels take values from sets that the node fixes, never from what clients send.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

CONTENT_TYPE = CONTENT_TYPE_LATEST
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
REQUEST_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
COMMIT_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
STALL_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
STALL_TICK_S = 0.025


class Metrics:
    """All metrics of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._requests = Counter(
            "http_requests_total",
            "Requests answered, by route, method and status.",
            ("route", "method", "status"),
            registry=self.registry,
        )
        self._request_seconds = Histogram(
            "http_request_seconds",
            "Time from a request's head to its answer; /sync waits for news in it.",
            ("route", "method"),
            buckets=REQUEST_BUCKETS_S,
            registry=self.registry,
        )
        self._commit_changes = Histogram(
            "commit_batch_changes",
            "Changes written by one transaction.",
            buckets=BATCH_BUCKETS,
            registry=self.registry,
        )
        self._commit_seconds = Histogram(
            "commit_batch_seconds",
            "Time to write one batch of changes durably.",
            buckets=COMMIT_BUCKETS_S,
            registry=self.registry,
        )
        self._commit_failures = Counter(
            "commit_failures_total",
            "Batches that the database refused, and whose changes were tried one by one.",
            registry=self.registry,
        )
        self._queue_depth = Gauge(
            "queue_depth", "Things waiting in a queue.", ("queue",), registry=self.registry
        )
        self._dropped = Counter(
            "queue_dropped_total",
            "Things dropped or refused since a queue was full.",
            ("queue",),
            registry=self.registry,
        )
        self._cache_bytes = Gauge(
            "cache_bytes", "Estimated size of a cache.", ("cache",), registry=self.registry
        )
        self._federation_sent = Counter(
            "federation_requests_total",
            "Requests to other servers, by outcome: ok, or the kind of failure.",
            ("outcome",),
            registry=self.registry,
        )
        self._federation_refused = Counter(
            "federation_refused_total",
            "Requests of other servers that were refused before they were looked into, by reason.",
            ("reason",),
            registry=self.registry,
        )
        self._federation_events = Counter(
            "federation_events_received_total",
            "Events from other servers, by what became of them.",
            ("outcome",),
            registry=self.registry,
        )
        self._federation_events_refused = Counter(
            "federation_events_refused_total",
            "Events from other servers that were dropped before they were judged, by reason.",
            ("reason",),
            registry=self.registry,
        )
        self._federation_edus = Counter(
            "federation_edus_received_total",
            "Ephemeral data units from other servers, by what became of them.",
            ("outcome",),
            registry=self.registry,
        )
        self._federation_transactions = Counter(
            "federation_transactions_total",
            "Transactions sent to other servers, by result: ok, or the kind of failure.",
            ("result",),
            registry=self.registry,
        )
        self._federation_events_not_taken = Counter(
            "federation_events_not_taken_total",
            "Events of ours that other servers did not take.",
            registry=self.registry,
        )
        self._federation_destinations = Gauge(
            "federation_destinations",
            "Other servers for which something waits, by what is being done about it.",
            ("activity",),
            registry=self.registry,
        )
        self._federation_oldest_waiting_seconds = Gauge(
            "federation_oldest_waiting_seconds",
            "For how long the oldest of what is to be sent to other servers has waited.",
            registry=self.registry,
        )
        self._policy_checks = Counter(
            "policy_server_checks_total",
            "Events for which a room's policy server was asked, by what became of it.",
            ("outcome",),
            registry=self.registry,
        )
        self._task_restarts = Counter(
            "background_task_restarts_total",
            "Background tasks that failed and were started again.",
            ("task",),
            registry=self.registry,
        )
        self._stall_seconds = Histogram(
            "event_loop_stall_seconds",
            "How much later than due the event loop came to a timer.",
            buckets=STALL_BUCKETS_S,
            registry=self.registry,
        )
        self._stall_max_seconds = Gauge(
            "event_loop_stall_max_seconds",
            "The longest stall of the event loop since the start.",
            registry=self.registry,
        )
        self.stall_max_seconds = 0.0
        # Finding a labelled child takes a lock and several dictionaries; routes times statuses are few.
        self._request_children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def observe_request(self, path: str, method: str, status: int, seconds: float) -> None:
        """Count one answered request. ``path`` is the route's pattern, or empty where none matched."""
        if method not in METHODS:
            method = "other"
        key = (path, method, status)
        children = self._request_children.get(key)
        if children is None:
            children = (
                self._requests.labels(path, method, str(status)),
                self._request_seconds.labels(path, method),
            )
            self._request_children[key] = children
        children[0].inc()
        children[1].observe(seconds)

    def observe_batch(self, changes: int, seconds: float) -> None:
        """One transaction of the committer."""
        self._commit_changes.observe(changes)
        self._commit_seconds.observe(seconds)

    def count_commit_failure(self) -> None:
        self._commit_failures.inc()

    def queue_setter(self, queue: str) -> Callable[[float], None]:
        """The function that tells the depth of the queue of that name."""
        return self._queue_depth.labels(queue).set

    def watch_queue(self, queue: str, depth: Callable[[], float]) -> None:
        """Ask ``depth`` for the queue's depth whenever metrics are read."""
        self._queue_depth.labels(queue).set_function(depth)

    def drop_counter(self, queue: str) -> Callable[[], None]:
        """The function that counts one thing dropped from the queue of that name."""
        return self._dropped.labels(queue).inc

    def watch_cache(self, cache: str, size_bytes: Callable[[], float]) -> None:
        """Ask ``size_bytes`` for the cache's size whenever metrics are read."""
        self._cache_bytes.labels(cache).set_function(size_bytes)

    def count_federation_request(self, outcome: str) -> None:
        """One request to another server; ``outcome`` is a class name of ours, or ``ok``."""
        self._federation_sent.labels(outcome).inc()

    def count_federation_refusal(self, reason: str) -> None:
        """One request of another server that was refused at the door."""
        self._federation_refused.labels(reason).inc()

    def count_federation_event(self, outcome: str) -> None:
        """One event of another server: accepted, soft_failed, rejected, missing, refused, given_up."""
        self._federation_events.labels(outcome).inc()

    def count_federation_event_refusal(self, reason: str) -> None:
        """One event of another server that is none of its room: the reason, or a class name of ours."""
        self._federation_events_refused.labels(reason).inc()

    def count_federation_edu(self, outcome: str) -> None:
        """One EDU of another server."""
        self._federation_edus.labels(outcome).inc()

    def count_transaction(self, result: str) -> None:
        """One transaction to another server; ``result`` is a class name of ours, or ``ok``."""
        self._federation_transactions.labels(result).inc()

    def count_events_not_taken(self, count: int) -> None:
        """Events that another server did not take."""
        self._federation_events_not_taken.inc(count)

    def watch_destinations(self, activity: str, count: Callable[[], float]) -> None:
        """Ask ``count`` for the number of destinations whenever metrics are read."""
        self._federation_destinations.labels(activity).set_function(count)

    def watch_oldest_waiting(self, seconds: Callable[[], float]) -> None:
        """Ask ``seconds`` for the age of the oldest thing to be sent whenever metrics are read."""
        self._federation_oldest_waiting_seconds.set_function(seconds)

    def count_policy_check(self, outcome: str) -> None:
        """One question to a policy server: signed, refused, failed, bad_signature."""
        self._policy_checks.labels(outcome).inc()

    def count_task_restart(self, task: str) -> None:
        self._task_restarts.labels(task).inc()

    async def watch_event_loop(self) -> None:
        """Measure how late timers are, for ever: a background task."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + STALL_TICK_S
            await asyncio.sleep(STALL_TICK_S)
            stall = max(0.0, loop.time() - due)
            self._stall_seconds.observe(stall)
            if stall > self.stall_max_seconds:
                self.stall_max_seconds = stall
                self._stall_max_seconds.set(stall)

    def render(self) -> bytes:
        """Everything in Prometheus' text format, of the media type CONTENT_TYPE."""
        return generate_latest(self.registry)
