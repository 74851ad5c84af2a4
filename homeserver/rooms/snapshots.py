"""State snapshots as layered deltas.

The state after a room's n-th change is a snapshot of height n. It is stored as what changed since the
snapshot whose height is n with its lowest set bit cleared (so 12 builds on 8, 13 on 12, 16 on nothing).
Reading a snapshot of height n takes at most log2(n) + 1 layers, and n changes store about n/2 · log2(n)
numbers together: neither a full copy per change nor a chain that grows for ever. Messages share the
snapshot before them, so they add nothing.

A state that came from elsewhere (`SnapshotChain.branch`) is one change as well, however much differs, so the
same rule bounds its layers. One that lacks a key of what is below it starts anew: a layer with all of it, at
a height so large that the next such copy comes only after as many changes as the state has entries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from homeserver.rooms.event import Event

StateKey = tuple[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One stored snapshot: `delta` is what its state has beyond that of `parent` (0: the empty state)."""

    number: int
    parent: int
    height: int
    delta: Mapping[StateKey, Event]


@dataclass(frozen=True, slots=True, eq=False)
class Branch:
    """A new layer and those below it, lowest first."""

    below: list[Layer]
    layer: Layer


@dataclass(slots=True)
class SnapshotChain:
    """The layers of a room's current state, lowest first, and the next free number."""

    layers: list[Layer] = field(default_factory=list)
    next_number: int = 1

    @property
    def number(self) -> int:
        """The number of the current state's snapshot; 0 while the state is empty."""
        return self.layers[-1].number if self.layers else 0

    def advance(self, event: Event) -> Layer:
        """Add one change; the new layer, to be stored."""
        height = self.layers[-1].height + 1 if self.layers else 1
        base = height & (height - 1)
        kept = len(self.layers)
        while kept and self.layers[kept - 1].height > base:
            kept -= 1
        delta: dict[StateKey, Event] = {}
        for layer in self.layers[kept:]:
            delta.update(layer.delta)
        delta[event.key] = event
        del self.layers[kept:]
        parent = self.layers[-1].number if self.layers else 0
        layer = Layer(self.next_number, parent, height, delta)
        self.layers.append(layer)
        self.next_number += 1
        return layer

    def branch(self, state: Mapping[StateKey, Event]) -> Branch:
        """A layer for any state, on as much of this chain as it shares. The chain goes on as before."""
        kept = len(self.layers)
        while kept:
            height = self.layers[kept - 1].height + 1
            base = height & (height - 1)
            while kept and self.layers[kept - 1].height > base:
                kept -= 1
            below: dict[StateKey, Event] = {}
            for layer in self.layers[:kept]:
                below.update(layer.delta)
            if kept and below.keys() <= state.keys():
                return self._branch(kept, height, _difference(below, state))
            kept = max(0, kept - 1)
        return self._branch(0, 1 << len(state).bit_length(), dict(state))

    def _branch(self, kept: int, height: int, delta: Mapping[StateKey, Event]) -> Branch:
        below = self.layers[:kept]
        layer = Layer(self.next_number, below[-1].number if below else 0, height, delta)
        self.next_number += 1
        return Branch(below, layer)

    def take(self, branch: Branch) -> None:
        """Go on from a branch."""
        self.layers = [*branch.below, branch.layer]


def _difference(below: Mapping[StateKey, Event], state: Mapping[StateKey, Event]) -> dict[StateKey, Event]:
    return {
        key: event
        for key, event in state.items()
        if (known := below.get(key)) is None or known.event_id != event.event_id
    }
