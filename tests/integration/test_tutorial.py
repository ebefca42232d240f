"""The tutorial's code runs, and gives what its comments say."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from agentcore import registry

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "tutorial" / "first-agent.md"


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


def check_comments(block: str, names: dict[str, Any]) -> int:
    """Compare every expression that stands alone with the comment behind it; returns how many there were."""
    lines = block.splitlines()
    checked = 0
    for node in ast.parse(block).body:
        _, mark, said = lines[node.lineno - 1].partition("  # ")
        if isinstance(node, ast.Expr) and mark:
            assert eval(ast.unparse(node), names) == ast.literal_eval(said)  # noqa: S307 - our own page
            checked += 1
    return checked


@pytest.mark.django_db
def test_the_tutorial_gives_what_it_says(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    declare, *steps = blocks()
    module = ModuleType("shop.agents")
    monkeypatch.setitem(sys.modules, "shop", ModuleType("shop"))
    monkeypatch.setitem(sys.modules, "shop.agents", module)
    names: dict[str, Any] = {}
    with registry.isolated():
        exec(declare, module.__dict__)
        checked = 0
        for step in steps:
            exec(step, names)
            checked += check_comments(step, names)
    assert checked == 2
    assert capsys.readouterr().out.splitlines()[-1].endswith(" done")
