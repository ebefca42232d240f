"""Which numbered expectations have a test, read from the `covers` marks without running anything."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

NAMESPACES = ("fc", "api", "fault", "promise", "threat", "dj", "ui", "op", "agui", "aisdk")


def marked(tests: Path) -> Iterator[str]:
    """Every id named by a `covers(...)` mark below `tests`: on a test, a class, a module or a parameter."""
    for file in sorted(tests.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "covers":
                for argument in node.args:
                    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                        yield argument.value


def by_namespace(ids: Iterator[str]) -> dict[str, list[str]]:
    """The ids of each namespace, each once, in a reader's order; an unknown namespace is an error."""
    found: dict[str, set[str]] = {namespace: set() for namespace in NAMESPACES}
    for name in ids:
        namespace, _, number = name.partition(":")
        if namespace not in found or not number:
            raise ValueError(f"covers({name!r}): use one of {', '.join(NAMESPACES)}, a colon and a number.")
        found[namespace].add(number)
    return {namespace: sorted(numbers, key=_natural) for namespace, numbers in found.items()}


def _natural(number: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", number) if part]


def main() -> None:
    """Print a line per namespace."""
    tests = Path(__file__).resolve().parent.parent
    for namespace, numbers in by_namespace(marked(tests)).items():
        print(f"{namespace:8} {len(numbers):3}  {' '.join(numbers)}".rstrip())


if __name__ == "__main__":
    main()
