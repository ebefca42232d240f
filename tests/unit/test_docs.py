"""The reference pages say what the code says."""

from __future__ import annotations

import ast
import importlib
import re
from dataclasses import fields
from pathlib import Path

import pytest

from agentcore import events
from agentcore.conf import Settings
from agentcore.failpoints import POINTS

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = ROOT / "docs"
pytestmark = pytest.mark.once


def rows(page: str) -> dict[str, list[str]]:
    """The table rows of a page, by the code in their first cell."""
    found = {}
    for line in (DOCS / page).read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `"):
            found[cells[0].strip("`")] = cells[1:]
    return found


def test_every_setting_is_documented_with_its_default() -> None:
    page = rows("reference/settings.md")
    documented = {key: cells[0].strip("`").strip('"') for key, cells in page.items() if key.isupper()}
    assert documented == {item.name.upper(): str(item.default) for item in fields(Settings)}


def test_every_event_is_documented_with_its_fields() -> None:
    page = rows("reference/events.md")
    documented = {
        name: {word.rstrip("?") for word in re.findall(r"`([^`]+)`", cells[0])} for name, cells in page.items()
    }
    kinds = [kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, events.Event)]
    assert documented == {kind.type: {item.name for item in fields(kind)} for kind in kinds if kind is not events.Event}


@pytest.mark.covers("dj:SET-4")
def test_every_system_check_has_its_own_place_in_the_documentation() -> None:
    source = (ROOT / "agentcore" / "checks.py").read_text()
    found = re.findall(r"yield _(error|warning)\((\d+),", source)
    emitted = {f"agentcore.{kind[0].upper()}{int(number):03}" for kind, number in found}
    documented = re.findall(r"^## (.+)$", (DOCS / "reference" / "checks.md").read_text(), re.MULTILINE)
    assert emitted
    assert sorted(documented) == sorted(emitted)


def test_every_failpoint_and_every_invariant_is_documented() -> None:
    documented = set(rows("howto/test-your-agents.md"))
    assert documented >= POINTS | {f"I{number}" for number in range(1, 15)}
    assert not {name for name in documented if "_" in name and name.isidentifier()} - POINTS


def test_the_examples_of_the_testing_page_are_python_and_import_what_there_is() -> None:
    examples = re.findall(r"```python\n(.*?)```", (DOCS / "howto" / "test-your-agents.md").read_text(), re.DOTALL)
    assert len(examples) > 5
    for example in examples:
        for node in ast.walk(ast.parse(example)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(str(node.module))
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


def test_every_make_target_is_documented() -> None:
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)) - {"help"}
    assert {name.removeprefix("make ") for name in rows("reference/make-targets.md")} == targets


@pytest.mark.parametrize("page", sorted(ROOT.glob("*.md")) + sorted(DOCS.rglob("*.md")), ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_bytes()) < 8000
