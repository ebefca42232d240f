"""The wheel holds agentcore, all of it, and nothing else."""

from __future__ import annotations

import re
import tarfile
import tomllib
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest

import agentcore

ROOT = Path(__file__).resolve().parent.parent.parent
pytestmark = [pytest.mark.once, pytest.mark.xdist_group("packaging")]

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def names_in(wheel: Path) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


def source_files() -> set[str]:
    files = (path for path in (ROOT / "agentcore").rglob("*") if path.is_file())
    return {path.relative_to(ROOT).as_posix() for path in files if path.suffix not in {".pyc", ".po", ".pot"}}


@pytest.mark.covers("dj:PKG-1", "dj:PKG-2", "dj:PKG-3")
def test_wheel_holds_the_whole_package_and_nothing_else(wheel: Path) -> None:
    names = names_in(wheel)
    info = {name for name in names if re.match(r"django_agentcore-[^/]+\.dist-info/", name)}
    packed = {name for name in names - info if not name.endswith((".po", ".pot"))}
    assert packed == source_files()
    assert {name.split("/")[0] for name in names - info} == {"agentcore"}


@pytest.mark.covers("dj:PKG-1")
@pytest.mark.parametrize(
    "pattern",
    [
        r"agentcore/py\.typed",
        r"agentcore/migrations/0001_\w+\.py",
        r"agentcore/streams/migrations/0001_\w+\.py",
        r"agentcore/templates/.+\.html",
        r"agentcore/static/agentcore/.+\.js",
        r"django_agentcore-[^/]+\.dist-info/licenses/LICENSE",
    ],
)
def test_wheel_holds_what_is_not_code(wheel: Path, pattern: str) -> None:
    assert [name for name in names_in(wheel) if re.fullmatch(pattern, name)]


@pytest.mark.covers("dj:PKG-1")
def test_wheel_holds_compiled_translations_where_there_are_sources(wheel: Path) -> None:
    sources = (ROOT / "agentcore").rglob("*.po")
    wanted = {path.with_suffix(".mo").relative_to(ROOT).as_posix() for path in sources}
    assert wanted <= names_in(wheel)


@pytest.mark.covers("dj:PKG-9")
def test_sdist_holds_licence_changelog_docs_and_tests(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "CHANGELOG.md", "README.md", "tests/conftest.py", "docs/howto/deploy.md"} <= names
    assert {"Changelog", "Documentation"} <= set(PROJECT["urls"])


@pytest.mark.covers("dj:PKG-6")
def test_classifiers_promise_exactly_what_is_tested() -> None:
    makefile = (ROOT / "Makefile").read_text()
    tested = {
        name: re.search(rf"^{name.upper()}_VERSIONS := (.+)$", makefile, re.MULTILINE)[1].split()  # type: ignore[index]
        for name in ("python", "django")
    }
    promised = set(PROJECT["classifiers"])
    pythons = {name for name in promised if re.fullmatch(r"Programming Language :: Python :: 3\.\d+", name)}
    djangos = {name for name in promised if re.fullmatch(r"Framework :: Django :: [\d.]+", name)}
    assert pythons == {f"Programming Language :: Python :: {version}" for version in tested["python"]}
    assert djangos == {f"Framework :: Django :: {version}" for version in tested["django"]}
    assert PROJECT["requires-python"] == f">={tested['python'][0]}"
    assert "Typing :: Typed" in promised


@pytest.mark.covers("dj:PKG-7")
def test_dependencies_have_lower_bounds_and_no_caps_but_for_a_reason() -> None:
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    requirements = [item.split(";")[0] for group in groups for item in group if not item.startswith("django-agentcore")]
    capped = [item for item in requirements if not re.fullmatch(r"[\w.-]+(\[[\w,]+\])?>=[\d.]+ *", item)]
    # We use what is not public in rq and pydantic-ai (tests/integration/test_rq_seams.py, tests/integration/adapter);
    # agentcore.mcp is written to the streams of its SDK's second version; pytest is for development only.
    assert capped == ["rq>=3,<3.1", "pydantic-ai-slim[openai]>=2.68,<3", "mcp>=2.3,<3", "pytest>=8.3,<9.2"]


def test_the_core_does_not_depend_on_a_provider(wheel: Path) -> None:
    metadata = zipfile.ZipFile(wheel).read(next(name for name in names_in(wheel) if name.endswith("/METADATA")))
    requires = HeaderParser().parsestr(metadata.decode()).get_all("Requires-Dist") or []
    base = [line for line in requires if "extra ==" not in line]
    assert base and not [line for line in base if re.match(r"openai|anthropic|pydantic-ai", line)]


def test_version_is_said_once(wheel: Path) -> None:
    assert wheel.name.startswith(f"django_agentcore-{PROJECT['version']}-")
    assert agentcore.__version__ == PROJECT["version"]


def test_no_package_index_is_named() -> None:
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert pins and not [line for line in pins if not re.fullmatch(r"[\w.\[\]-]+==[\w.+!]+( *;.*)?", line)]
    for path in (ROOT / "Makefile", ROOT / ".ci" / "run"):
        assert "://" not in path.read_text(), f"an address in {path.name}"
    addresses = re.findall(r"\w+://[^/\s\"]+", (ROOT / "pyproject.toml").read_text())
    assert set(addresses) == {"https://github.com"}
