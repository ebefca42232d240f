"""Reads a package's sources: its modules, their syntax trees and everything they import, for type checkers too."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

IMPORTING_CALLS = {"import_module", "import_string"}


@dataclass(frozen=True)
class Import:
    """One name a module imports: a module, or something in one."""

    target: str
    line: int


@dataclass(frozen=True)
class Module:
    """One source file of a package."""

    name: str
    path: Path
    is_package: bool
    tree: ast.Module
    imports: tuple[Import, ...]


def read_package(root: Path, package: str) -> dict[str, Module]:
    """Read every module of `root/package`, keyed by dotted name; imports name the most precise module there is."""
    files = sorted((root / package).rglob("*.py"))
    names = {_dotted(file.relative_to(root)): file for file in files}
    modules = {}
    for name, file in names.items():
        tree = ast.parse(file.read_text(encoding="utf-8"), filename=str(file))
        is_package = file.name == "__init__.py"
        imports = tuple(Import(_most_precise(target, names), line) for target, line in _imports(tree, name, is_package))
        modules[name] = Module(name, file, is_package, tree, imports)
    return modules


def called_name(node: ast.Call) -> str:
    """The last word of what is called: `atomic` for both `atomic()` and `transaction.atomic()`."""
    function = node.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _dotted(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(tree: ast.Module, name: str, is_package: bool) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _resolve(node.module or "", node.level, name, is_package)
            yield from ((f"{base}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.Call) and called_name(node) in IMPORTING_CALLS and node.args:
            first = node.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                text = first.value.lstrip(".")
                yield _resolve(text, len(first.value) - len(text), name, is_package), node.lineno


def _resolve(module: str, level: int, importer: str, is_package: bool) -> str:
    if level == 0:
        return module
    base = importer.split(".")
    base = base[: len(base) - level + is_package]
    return ".".join([*base, module] if module else base)


def _most_precise(target: str, names: dict[str, Path]) -> str:
    """`agentcore.models.Thread` is the module `agentcore.models`; a foreign name stays as it is written."""
    candidate = target
    while candidate:
        if candidate in names:
            return candidate
        candidate = candidate.rpartition(".")[0]
    return target
