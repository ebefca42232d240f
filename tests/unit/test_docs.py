"""The reference pages say what the code says."""

from __future__ import annotations

import ast
import re
import tomllib
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import pytest

from agentcore import conf
from agentcore.conf import Settings
from agentcore.testing.faults.actions import POINTS
from agentcore.values import events
from tests.tools.layers import is_public

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = ROOT / "docs"
CHECKER = ROOT / "agentcore" / "testing" / "faults" / "checker"
PAGES = sorted(ROOT.glob("*.md")) + sorted(DOCS.rglob("*.md"))
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


def test_every_setting_has_a_sentence_beside_it_with_its_unit() -> None:
    (settings,) = (node for node in ast.parse(Path(conf.__file__).read_text()).body if isinstance(node, ast.ClassDef))
    said = {
        field.target.id: ast.literal_eval(text.value)
        for field, text in pairwise(settings.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr)
    }
    assert said.keys() == {item.name for item in fields(Settings)}
    assert [name for name, text in said.items() if not re.fullmatch(r"[A-Z].{15,}\.", text)] == []
    timed = {name for name in said if re.search(r"_(seconds|timeout|interval|days)$", name)}
    assert timed and [name for name in timed if not re.search(r"in (seconds|days)\b", said[name])] == []


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
    assert documented >= POINTS
    found = {word for path in CHECKER.glob("*.py") for word in re.findall(r'"(I\d+)"', path.read_text())}
    assert {name for name in documented if re.fullmatch(r"I\d+", name)} == found
    assert not {name for name in documented if "_" in name and name.isidentifier()} - POINTS


def test_every_make_target_is_documented() -> None:
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)) - {"help"}
    assert {name.removeprefix("make ") for name in rows("reference/make-targets.md")} == targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", prose(page))
    assert [target for target, _ in targets if not (page.parent / target).exists()] == []
    for target, anchor in targets:
        there = page.parent / target if target else page
        assert not anchor or anchor in anchors(there), f"{page.name} links to {target}#{anchor}"


def test_the_addresses_that_a_running_system_gives_lead_to_pages_that_are_shipped() -> None:
    """They begin with the address of the repository; what stands behind it is in the sdist too."""
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    assert urls["Documentation"] == f"{urls['Source']}/tree/main/docs"
    given = {
        address
        for path in (ROOT / "agentcore").rglob("*")
        if path.suffix in {".py", ".html", ".js"}
        for address in re.findall(r"[^\s\"'`(]*\bdocs/[^\s\"'`)]+", path.read_text())
    }
    assert given
    for address in given:
        assert address.startswith(f"{urls['Source']}/blob/main/"), address
        assert (ROOT / address.removeprefix(f"{urls['Source']}/blob/main/")).exists(), address


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_readers_need_not_know_the_rooms_of_the_house(page: Path) -> None:
    imported = re.findall(r"(?:from|import) (agentcore[\w.]*)", page.read_text())
    assert [name for name in imported if not is_public(name)] == []


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^( *)```.*?^\1```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ +(.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_bytes()) < 8000


def test_every_file_that_the_architecture_names_is_there() -> None:
    package = ROOT / "agentcore"
    named = re.findall(r"`((?:[\w-]+/)*[\w-]+\.(?:py|js))`", (DOCS / "explanation" / "architecture.md").read_text())
    assert len(named) > 40
    missing = [name for name in named if not ((package / name).exists() if "/" in name else [*package.rglob(name)])]
    assert missing == []
