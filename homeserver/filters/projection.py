"""``event_fields``: leaving out of an event what the client did not ask for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from federation.event import JsonObject
from homeserver.property_paths import parse_property_path

# Property names to what is wanted below them; None is everything.
Tree = dict[str, "Tree | None"]


@dataclass(frozen=True, slots=True)
class EventFields:
    """The paths that a filter asks for, as a tree. Made by `compile_event_fields`."""

    tree: Tree

    def project(self, event: JsonObject) -> JsonObject:
        """A copy of ``event`` with the fields asked for, those of them that it has. What is kept
        whole is shared with ``event``."""
        return _project(event, self.tree)


def compile_event_fields(paths: Iterable[str]) -> EventFields:
    """``paths`` are dot-separated property paths; a path covers all below it."""
    tree: Tree = {}
    for path in paths:
        *parents, last = parse_property_path(path)
        branch = tree
        for name in parents:
            below = branch.setdefault(name, {})
            if below is None:  # a shorter path asks for all of this already
                break
            branch = below
        else:
            branch[last] = None
    return EventFields(tree)


def _project(value: JsonObject, tree: Tree) -> JsonObject:
    kept: JsonObject = {}
    for name, below in tree.items():
        if name not in value:
            continue
        child = value[name]
        if below is None:
            kept[name] = child
        elif isinstance(child, dict):
            part = _project(child, below)
            if part:
                kept[name] = part
    return kept
