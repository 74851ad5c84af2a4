"""What a few events of a state say, at many snapshots, without reading the states whole: see snapshots.py."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from homeserver.storage.connection import Row

V = TypeVar("V")


def views_at(
    numbers: Collection[int],
    layers: Sequence[Row],
    *,
    empty: V,
    unknown: V,
    after: Callable[[V, Sequence[int]], V],
) -> dict[int, V]:
    """A view of each snapshot by its number.

    `layers` are those of the snapshots and all that these stand on, of which `after` takes the events in, by
    number. `empty` is the view of the empty state, `unknown` that of a snapshot that is not stored.
    """
    by_number = {row["number"]: row for row in layers}
    views: dict[int, V] = {0: empty}

    def view_of(number: int) -> V:
        path: list[Row] = []  # from the snapshot down: at most as many layers as its height has bits
        while number not in views:
            layer = by_number.get(number)
            if layer is None:
                views[number] = unknown
                break
            path.append(layer)
            number = layer["parent"]
        view = views[number]
        for layer in reversed(path):
            view = views[layer["number"]] = after(view, layer["event_nids"])
        return view

    return {number: view_of(number) for number in numbers}
