"""Property paths of push rules and filters. Source: Appendices, "Dot-separated property paths"."""

from __future__ import annotations

PropertyPath = tuple[str, ...]


def parse_property_path(path: str) -> PropertyPath:
    r"""The property names along ``path``, outermost first.

    ``\.`` and ``\\`` stand for a dot and a backslash within a name; any other escape sequence is
    left as it is. Every string is a path: an empty name addresses a property whose name is empty.
    """
    if "\\" not in path:
        return tuple(path.split("."))
    names: list[str] = []
    name: list[str] = []
    position = 0
    while position < len(path):
        char = path[position]
        if char == "\\" and path[position + 1 : position + 2] in (".", "\\"):
            position += 1
            name.append(path[position])
        elif char == ".":
            names.append("".join(name))
            name.clear()
        else:
            name.append(char)
        position += 1
    names.append("".join(name))
    return tuple(names)
