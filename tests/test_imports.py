"""Imports point one way (the order of the layers below), and never in circles, also not "for types only"."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# A package may import those of earlier layers, and others of its own layer if that makes no circle.
LAYERS: list[set[str]] = [
    {"federation"},
    {"homeserver.config"},
    {"homeserver"},  # the base files: homeserver/*.py that no later layer names
    {"homeserver.storage"},
    {"homeserver.commit_log"},
    {"homeserver.accounts", "homeserver.push_rules", "homeserver.filters"},
    {"homeserver.media"},
    {"homeserver.rooms"},
    {"homeserver.encryption"},
    {"homeserver.sync"},
    {"homeserver.federating"},
    {"homeserver.policy", "homeserver.admin"},
    {"homeserver.api"},
    {"homeserver.composition"},
    {"homeserver.app"},
    {"homeserver.cli", "homeserver.__main__"},
]
LAYER_OF = {package: number for number, layer in enumerate(LAYERS) for package in layer}
# Only these may do I/O in `federation`.
IO_MODULES = {
    "aiohttp",
    "asyncio",
    "asyncpg",
    "socket",
    "ssl",
    "http",
    "urllib.request",
    "subprocess",
    "os",
    "time",
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def our_files() -> list[Path]:
    return sorted(path for package in ("federation", "homeserver") for path in (ROOT / package).rglob("*.py"))


def package_of(module: str) -> str:
    """The layer's package: ``homeserver.rooms`` for ``homeserver.rooms.joins``, ``homeserver`` for base."""
    parts = module.split(".")
    if parts[0] != "homeserver" or len(parts) == 1:
        return parts[0]
    named = ".".join(parts[:2])
    is_folder = (ROOT / parts[0] / parts[1]).is_dir()
    return named if named in LAYER_OF or is_folder else "homeserver"


def imports_of(tree: ast.AST, module: str) -> Iterator[tuple[int, str]]:
    """(line, module) of every import, wherever in the file it stands."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=str(source), level=0, names=names):
                for alias in names:
                    submodule = f"{source}.{alias.name}"
                    is_module = (ROOT / Path(*submodule.split("."))).with_suffix(".py").exists()
                    yield node.lineno, submodule if is_module else source
            case ast.ImportFrom(level=level) if level:
                raise AssertionError(f"{module}:{node.lineno}: relative import")


def our_imports() -> dict[str, list[tuple[int, str]]]:
    found = {}
    for path in our_files():
        module = module_name(path)
        found[module] = list(imports_of(ast.parse(path.read_text()), module))
    return found


IMPORTS = our_imports()


def is_ours(module: str) -> bool:
    return module.split(".")[0] in ("federation", "homeserver")


def test_every_package_has_its_place() -> None:
    packages = {package_of(module) for module in IMPORTS}
    assert packages <= set(LAYER_OF), "name the new package's layer in LAYERS"


def test_imports_point_down() -> None:
    upward = [
        f"{module}:{line} imports {imported}"
        for module, found in IMPORTS.items()
        for line, imported in found
        if is_ours(imported) and LAYER_OF[package_of(imported)] > LAYER_OF[package_of(module)]
    ]
    assert upward == []


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = {module: {name for _, name in found if name in IMPORTS} for module, found in IMPORTS.items()}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " → ".join((*path[path.index(module) :], module))
        if module in done:
            return
        for imported in sorted(graph[module]):
            visit(imported, (*path, module))
        done.add(module)

    for module in sorted(graph):
        visit(module, ())


def test_nothing_is_imported_for_types_only() -> None:
    wrong = [
        module_name(path)
        for path in our_files()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Name | ast.Attribute) and "TYPE_CHECKING" in ast.unparse(node)
    ]
    assert wrong == [], "a type that cannot be imported tells of a wrong direction"


def test_the_rules_of_federation_do_no_io() -> None:
    wrong = [
        f"{module}:{line} imports {imported}"
        for module, found in IMPORTS.items()
        if module.startswith("federation.") and not module.startswith("federation.transport")
        for line, imported in found
        if imported in IO_MODULES or imported.split(".")[0] in IO_MODULES
    ]
    assert wrong == []


def test_the_check_sees_imports_wherever_they_stand() -> None:
    source = "import homeserver.api\nif True:\n  def f():\n    from homeserver.storage import database\n"
    found = [module for _, module in imports_of(ast.parse(source), "m")]
    assert found == ["homeserver.api", "homeserver.storage.database"]
    with pytest.raises(AssertionError, match="relative import"):
        list(imports_of(ast.parse("from . import x"), "m"))
