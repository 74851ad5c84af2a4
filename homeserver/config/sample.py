"""The commented configuration file, written from the classes in ``sections``.

A line ``# text`` is a comment; ``#key = value`` is a setting at its default (or with an example, where it is
unset by default), ready to be uncommented. Comments are the docstrings of the classes and of their fields.
"""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
import typing
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from typing import Any

import msgspec
from msgspec.structs import FieldInfo, fields

from homeserver.config.load import struct_of
from homeserver.config.sections import Config

WIDTH = 100
HEADER = """\
Veche's configuration. It is read once, at the start: `veche config check` tells what is wrong with it.
Settings with a # before them are at their defaults, or unset."""

Settings = Mapping[str, Mapping[str, Any]]


def render_sample(settings: Settings, client_listener: Mapping[str, Any] | None = None) -> str:
    """A complete file in which ``settings`` (by section and key) are set and all else is commented out.

    ``client_listener`` is set on the first of the listeners, the one for clients.
    """
    lines = [*_comment(HEADER), ""]
    for section in fields(Config):
        lines += _render_section(section, {"listeners": client_listener or {}, **settings})
    return "\n".join(lines).rstrip() + "\n"


def _render_section(section: FieldInfo, settings: Settings) -> list[str]:
    struct = struct_of(section.type)
    assert struct is not None, f"{section.name} is no section"
    lines = _comment(inspect.cleandoc(struct.__doc__ or ""))
    given = dict(settings.get(section.name, {}))
    if not _is_list_of_tables(section):
        return [*lines, f"[{section.name}]", "", *_render_fields(struct, given)]
    first, *others = section.default  # a list of tables: the default is what one would change, so it is set
    lines += [f"[[{section.name}]]", "", *_render_fields(struct, msgspec.structs.asdict(first) | given)]
    for item in others:
        lines.append(f"[[{section.name}]]")
        lines += [
            f"{field.name} = {toml_value(value)}"
            for field in fields(struct)
            if (value := getattr(item, field.name)) != _default(field)
        ]
        lines.append("")
    return lines


def _is_list_of_tables(field: FieldInfo) -> bool:
    return struct_of(field.type) is not None and not inspect.isclass(field.type)


def _render_fields(struct: type[msgspec.Struct], given: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    comments = field_docstrings(struct)
    for field in sorted(fields(struct), key=_is_list_of_tables):  # in TOML, tables come after values
        lines += _comment(comments[field.name])
        if _is_list_of_tables(field):
            item = struct_of(field.type)
            assert item is not None
            lines.append(f"#[[{struct_section(struct)}.{field.name}]]")
            lines += [f"#{part.name} = {toml_value(_example(item, part))}" for part in fields(item)]
        elif field.required or given.get(field.name, _default(field)) != _default(field):
            value = given[field.name] if field.name in given else _example(struct, field)
            lines.append(f"{field.name} = {toml_value(value)}")
        else:
            lines.append(f"#{field.name} = {toml_value(_default(field) or _shown(struct, field))}")
        lines.append("")
    return lines


def struct_section(struct: type[msgspec.Struct]) -> str:
    """The name of the section that the class is for."""
    return next(section.name for section in fields(Config) if struct_of(section.type) is struct)


def _default(field: FieldInfo) -> Any:
    if field.default is not msgspec.NODEFAULT:
        return field.default
    return None if field.default_factory is msgspec.NODEFAULT else field.default_factory()


def _shown(struct: type[msgspec.Struct], field: FieldInfo) -> Any:
    """What to show of a setting that is unset, empty or false by default."""
    default = _default(field)
    return _example(struct, field) if default in (None, (), {}) else default


def _example(struct: type[msgspec.Struct], field: FieldInfo) -> Any:
    """What a setting may look like: the example in its ``Meta``."""
    for metadata in _metadata(typing.get_type_hints(struct, include_extras=True)[field.name]):
        if metadata.examples:
            return metadata.examples[0]
    raise LookupError(f"{struct.__name__}.{field.name} has neither a default nor an example")


def _metadata(hint: Any) -> list[msgspec.Meta]:
    found = [part for part in getattr(hint, "__metadata__", ()) if isinstance(part, msgspec.Meta)]
    for argument in typing.get_args(hint):
        found += _metadata(argument)
    return found


def toml_value(value: Any) -> str:
    """A value as TOML. Raises TypeError for what settings never are."""
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return f"{value:_}" if value >= 10_000 else str(value)
        case float():
            return str(int(value)) + ".0" if value.is_integer() else str(value)
        case str():
            return json.dumps(value, ensure_ascii=False)  # TOML's basic strings have JSON's escapes
        case tuple() | list():
            return f"[{', '.join(map(toml_value, value))}]"
        case dict():
            return "{ " + ", ".join(f"{toml_key(k)} = {toml_value(v)}" for k, v in value.items()) + " }"
        case msgspec.Struct():
            return toml_value(msgspec.structs.asdict(value))
    raise TypeError(f"no setting is a {type(value).__name__}")


def toml_key(key: str) -> str:
    bare = key.isascii() and key.replace("-", "").replace("_", "").isalnum()
    return key if bare else json.dumps(key)


def _comment(text: str) -> list[str]:
    lines: list[str] = []
    for paragraph in text.split("\n"):
        lines += [f"# {line}" for line in textwrap.wrap(paragraph, WIDTH - 2)] or ["#"]
    return lines


@cache
def field_docstrings(struct: type[msgspec.Struct]) -> dict[str, str]:
    """The string under each field of the class, read from its source."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(struct)))
    [body] = [node.body for node in tree.body if isinstance(node, ast.ClassDef)]
    found = {}
    for field, after in pairwise(body):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        match after:
            case ast.Expr(value=ast.Constant(value=str(text))):
                found[field.target.id] = inspect.cleandoc(text)
    return found
