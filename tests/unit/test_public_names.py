"""The two faces of the package: what an app is written with, and what a model's adapter is."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import agentcore
from agentcore import providers

pytestmark = pytest.mark.once


def test_every_public_name_is_handed_out_and_told_to_type_checkers_from_one_home() -> None:
    tree = ast.parse(Path(agentcore.__file__).read_text())
    relative = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]
    told = {alias.asname: node.module for node in relative for alias in node.names}
    assert told == agentcore._HOMES
    assert set(agentcore.__all__) == {"__version__", *told}
    assert all(getattr(agentcore, name) is not None for name in agentcore.__all__)


def test_every_event_of_a_model_is_handed_out_with_its_protocol() -> None:
    assert {kind.__name__ for kind in providers.ModelEvent.__args__} < set(providers.__all__)
    assert all(getattr(providers, name) is not None for name in providers.__all__)


def test_what_tools_and_adapters_need_can_be_imported_without_settings() -> None:
    code = (
        "import agentcore, agentcore.providers; agentcore.SYSTEM, agentcore.TextPart, agentcore.Usage, agentcore.tool"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PATH": ""}, cwd=Path(agentcore.__file__).parents[1])
