"""Declaring agents: what is refused, and when a name is taken."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from agentcore import Agent, registry, tool
from agentcore.exceptions import DuplicateAgent, UnknownAgent, UserError
from agentcore.testing import ScriptedModel

pytestmark = pytest.mark.once


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    with registry.isolated():
        yield


@tool
def look(at: str) -> str:
    """Look."""
    return at


def plain(at: str) -> str:
    return at


def declare(**options: Any) -> Agent:
    return Agent(**{"name": "looker", "model": ScriptedModel([]), **options})


def test_a_declared_agent_is_found_by_its_name() -> None:
    agent = declare(tools=[look], version="2")
    assert registry.get("looker") is agent.definition
    assert "looker" in registry.names()
    (spec,) = agent.definition.tool_specs
    assert (spec.name, spec.description, spec.parameters["required"]) == ("look", "Look.", ["at"])


@pytest.mark.covers("dj:APP-4")
def test_a_name_is_taken_once() -> None:
    declare()
    with pytest.raises(DuplicateAgent, match="'looker'"):
        declare()


@pytest.mark.covers("dj:APP-4")
def test_a_name_nobody_declares_is_a_named_error() -> None:
    with pytest.raises(UnknownAgent, match="'nobody'"):
        registry.get("nobody")


@pytest.mark.covers("dj:APP-6")
def test_what_a_test_declares_is_gone_after_it() -> None:
    with registry.isolated():
        declare(name="passing")
        assert "passing" in registry.names()
    assert "passing" not in registry.names()


@pytest.mark.covers("dj:SET-5")
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"name": ""}, "1 to 64"),
        ({"name": "x" * 65}, "1 to 64"),
        ({"version": "x" * 33}, "version"),
        ({"on_busy": "panic"}, "on_busy must be one of queue, reject, interrupt, parallel"),
        ({"tools": [plain]}, "is not a tool; decorate the function with @tool"),
        ({"tools": [look, look]}, "two tools are called look"),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_declared(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        declare(**options)
    assert "looker" not in registry.names()


def test_a_model_may_be_chosen_anew_for_each_step() -> None:
    models = iter([ScriptedModel([]), ScriptedModel([])])
    agent = declare(model=lambda: next(models))
    assert agent.definition.choose_model() is not agent.definition.choose_model()
    fixed = declare(name="fixed")
    assert fixed.definition.choose_model() is fixed.definition.choose_model()
