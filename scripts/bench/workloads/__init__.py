"""Workloads of our own for ../shared/bench, by name, in the order in which they run."""

from __future__ import annotations

from workloads.encryption import keys_claim, keys_query, keys_upload, to_device

WORKLOADS = {each.__name__: each for each in (keys_upload, keys_query, keys_claim, to_device)}
