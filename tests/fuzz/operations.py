"""The requests that the specification's OpenAPI documents describe, references resolved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag

import yaml

JsonObject = dict[str, Any]
METHODS = ("get", "put", "post", "delete")
REFERENCE_DEPTH_MAX = 12
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a path or query."""

    name: str
    place: str
    schema: JsonObject
    required: bool


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path; ``path`` has placeholders in braces."""

    method: str
    path: str
    parameters: tuple[Parameter, ...]
    body: JsonObject | None
    """The schema of its JSON body."""

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(slots=True)
class Documents:
    """YAML files, each read once, and what their ``$ref`` point to."""

    loaded: dict[Path, Any] = field(default_factory=dict)

    def load(self, file: Path) -> Any:
        if file not in self.loaded:
            self.loaded[file] = yaml.load(file.read_text(), Loader=_LOADER)
        return self.loaded[file]

    def resolve(self, value: Any, file: Path, depth: int = 0) -> Any:
        """``value`` without references; where they nest too deep (recursive schemas), anything goes."""
        if depth > REFERENCE_DEPTH_MAX:
            return {}
        if isinstance(value, list):
            return [self.resolve(item, file, depth) for item in value]
        if not isinstance(value, dict):
            return value
        if "$ref" in value:
            target, fragment = urldefrag(value["$ref"])
            other = (file.parent / target).resolve() if target else file
            found = self.load(other)
            for step in filter(None, fragment.split("/")):
                found = found[step]
            rest = {key: item for key, item in value.items() if key != "$ref"}
            resolved = self.resolve(found, other, depth + 1)
            return {**resolved, **self.resolve(rest, file, depth)} if isinstance(resolved, dict) else resolved
        return {
            key: self.resolve(item, file, depth)
            for key, item in value.items()
            if key not in ("example", "examples")
        }


def load_operations(spec: Path) -> list[Operation]:
    """All operations of the Client-Server API in ``spec`` (the folder that holds ``data/``)."""
    documents = Documents()
    operations: list[Operation] = []
    for file in sorted((spec / "data" / "api" / "client-server").glob("*.yaml")):
        operations += _operations(documents, file.resolve())
    return operations


def _operations(documents: Documents, file: Path) -> Iterator[Operation]:
    document = documents.load(file)
    base = document["servers"][0]["variables"]["basePath"]["default"].rstrip("/")
    for written, methods in document["paths"].items():
        path = written.strip()  # a path described twice has a trailing space the second time
        shared = methods.get("parameters", [])
        for method, detail in methods.items():
            if method not in METHODS:
                continue
            body = detail.get("requestBody", {})
            content = documents.resolve(body, file).get("content", {})
            yield Operation(
                method=method.upper(),
                path=path if path.startswith("/_matrix") else base + path,
                parameters=tuple(
                    Parameter(each["name"], each["in"], each.get("schema", {}), each.get("required", False))
                    for each in documents.resolve([*shared, *detail.get("parameters", [])], file)
                ),
                body=content["application/json"].get("schema", {}) if "application/json" in content else None,
            )
