"""Holds requests that a node makes to other servers against the request schemas of the Server-Server API.

``../shared/conformance`` knows the operations and checks responses; this looks at the other half of the same
documents: the path, the query parameters, the body.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs

from jsonschema import Draft202012Validator

SERVER_SERVER = "server-server"
INTEGER_LENGTH_MAX = 20


def request_problems(specification: Any, method: str, raw_path: str, body: bytes) -> Iterator[str]:
    """What is wrong with a request, by the specification's documents; nothing for a right one."""
    path, _, query = raw_path.partition("?")
    operation = specification.match(method, path)
    if operation is None or operation.api != SERVER_SERVER:
        yield "no operation of the Server-Server API"
        return
    base, template = operation.responses["$base"], operation.responses["$path"]
    pointer = f"{base}#/paths/{_escaped(template)}/{method.lower()}"
    detail = _resolve(specification, pointer)
    declared = [_expanded(specification, base, parameter) for parameter in detail.get("parameters", ())]
    yield from _query_problems([each for each in declared if each["in"] == "query"], query)
    if "requestBody" not in detail:
        if body:
            yield "a body where the operation takes none"
        return
    try:
        content = json.loads(body)
    except ValueError:
        yield "a body that is no JSON"
        return
    schema = f"{pointer}/requestBody/content/application~1json/schema"
    validator = Draft202012Validator({"$ref": schema}, registry=specification.registry)
    for error in validator.iter_errors(content):
        where = "/".join(str(part) for part in error.absolute_path) or "(body)"
        yield f"{where}: {error.message[:240]}"


def _query_problems(declared: list[dict[str, Any]], query: str) -> Iterator[str]:
    given = parse_qs(query, keep_blank_values=True, strict_parsing=bool(query))
    known = {parameter["name"]: parameter for parameter in declared}
    for name in given:
        if name not in known:
            yield f"query: there is no parameter {name!r}"
    for name, parameter in known.items():
        if name not in given:
            if parameter.get("required"):
                yield f"query: {name!r} is required"
            continue
        schema = parameter.get("schema", {})
        if schema.get("type") != "array" and len(given[name]) != 1:
            yield f"query: {name!r} is given {len(given[name])} times"
        for value in given[name]:
            if not _fits(schema.get("items", schema), value):
                yield f"query: {name!r} is {value[:100]!r}"


def _fits(schema: dict[str, Any], value: str) -> bool:
    match schema.get("type"):
        case "integer":
            digits = value.removeprefix("-")
            return digits.isascii() and digits.isdigit() and len(digits) <= INTEGER_LENGTH_MAX
        case "boolean":
            return value in ("true", "false")
    return value in schema["enum"] if "enum" in schema else True


def _resolve(specification: Any, pointer: str) -> dict[str, Any]:
    found: dict[str, Any] = specification.registry.resolver().lookup(pointer).contents
    return found


def _expanded(specification: Any, base: str, parameter: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in parameter:
        return parameter
    found: dict[str, Any] = specification.registry.resolver(base).lookup(parameter["$ref"]).contents
    return found


def _escaped(segment: str) -> str:
    return segment.replace("~", "~0").replace("/", "~1").replace("{", "%7B").replace("}", "%7D")
