"""Routes, and finding one: a tree of path segments, so that a look-up costs a few dictionary look-ups
however many endpoints there are."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from urllib.parse import unquote

from aiohttp import web

from homeserver.api.request import Request
from homeserver.errors import InvalidParam

Handler = Callable[[Request], Awaitable[web.Response]]


class Auth(enum.Enum):
    """What a route demands of its caller. There is no default: it cannot be forgotten."""

    NONE = enum.auto()
    OPTIONAL = enum.auto()  # a token is used if there is one
    USER = enum.auto()  # a registered user
    GUEST = enum.auto()  # a registered user or a guest (Client-Server API, "Guest Access")
    ADMIN = enum.auto()  # an administrator of this node
    FEDERATION = enum.auto()  # another server that signs its requests; handlers ask for `request.origin`


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One method of one path; `limit` names the rate limit that its callers share, if any.

    `while_suspended` routes stay open to suspended accounts, `while_locked` ones (logging out) to locked
    accounts too. `body_max_bytes` overrides the node's
    limit.
    """

    method: str
    path: str
    handler: Handler
    auth: Auth
    limit: str | None = None
    while_suspended: bool = True
    while_locked: bool = False
    body_max_bytes: int | None = None


@dataclass(slots=True)
class _Node:
    children: dict[str, _Node] = field(default_factory=dict)
    parameter: _Node | None = None
    parameter_names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    routes: dict[str, Route] = field(default_factory=dict)


class Router:
    """Finds routes by method and raw path."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._root = _Node()
        self._literal: dict[tuple[str, str], Route] = {}  # those without placeholders, by method and path
        for route in routes:
            self._add(route)

    def _add(self, route: Route) -> None:
        node, names = self._root, []
        for segment in route.path.split("/"):
            if segment.startswith("{"):
                names.append(segment[1:-1])
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node = node.children.setdefault(segment, _Node())
        if route.method in node.routes:
            raise ValueError(f"{route.method} {route.path} is routed twice")
        node.routes[route.method] = route
        if not names:
            self._literal[route.method, route.path] = route
        node.parameter_names[route.method] = tuple(names)

    def find(self, method: str, path: str) -> tuple[Route | None, dict[str, str], bool]:
        """The route, its decoded parameters, and whether the path exists under any method.

        Literal segments win over placeholders. A placeholder takes an empty segment too (an empty
        state key is written as a trailing slash). Raises InvalidParam on parameters that are not UTF-8.
        """
        literal = self._literal.get((method, path))
        if literal is not None:
            return literal, {}, True
        found: list[str] = []
        node = self._walk(self._root, path.split("/"), 0, found)
        if node is None:
            return None, {}, False
        route = node.routes.get(method)
        if route is None:
            return None, {}, bool(node.routes)
        names = node.parameter_names[method]
        return route, {name: _decoded(value) for name, value in zip(names, found, strict=True)}, True

    def _walk(self, node: _Node, segments: list[str], index: int, found: list[str]) -> _Node | None:
        if index == len(segments):
            return node if node.routes else None
        segment = segments[index]
        child = node.children.get(segment)
        if child is not None:
            end = self._walk(child, segments, index + 1, found)
            if end is not None:
                return end
        if node.parameter is not None:
            found.append(segment)
            end = self._walk(node.parameter, segments, index + 1, found)
            if end is not None:
                return end
            found.pop()
        return None


def _decoded(segment: str) -> str:
    if "%" not in segment:
        return segment
    try:
        text = unquote(segment, errors="strict")
    except UnicodeDecodeError as cause:
        raise InvalidParam("The path holds bytes that are not UTF-8") from cause
    if "\x00" in text:
        raise InvalidParam("The path holds a NUL character")
    return text
