"""`make covers` counts each expectation once and refuses a namespace nobody knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tools.covers import by_namespace, marked

pytestmark = pytest.mark.once


def test_marks_on_tests_modules_and_parameters_are_found(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text(
        "import pytest\n"
        "pytestmark = pytest.mark.covers('dj:PKG-10')\n"
        "@pytest.mark.covers('fault:W5', 'dj:PKG-9')\n"
        "@pytest.mark.parametrize('x', [pytest.param(1, marks=pytest.mark.covers('dj:PKG-9'))])\n"
        "def test_x(x): ...\n"
    )
    found = by_namespace(marked(tmp_path))
    assert found["dj"] == ["PKG-9", "PKG-10"]
    assert found["fault"] == ["W5"]
    assert found["ui"] == []


def test_an_unknown_namespace_is_refused() -> None:
    with pytest.raises(ValueError, match="use one of fc, api, fault"):
        by_namespace(iter(["faults:W5"]))


def test_every_mark_in_this_suite_names_a_known_namespace() -> None:
    tests = Path(__file__).resolve().parent.parent
    assert any(by_namespace(marked(tests)).values())
