"""Declaring agents: what is refused, and when a name is taken."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from agentcore import Agent, ContextBlock, Guard, Limits, tool
from agentcore.declaration import registry
from agentcore.exceptions import DuplicateAgent, UnknownAgent, UserError
from agentcore.testing import ScriptedModel

pytestmark = pytest.mark.once


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
    def choose(about: Any) -> ScriptedModel:
        return ScriptedModel([])

    assert declare(model=choose).definition.model_chooser is choose
    assert declare(name="fixed").definition.model_chooser is None


# --- what is declared wrongly is told where it is declared --------------------------------------------------------


class Answer(BaseModel):
    text: str


class Nameless:
    provider = "mine"

    def stream(self, request: Any) -> Any: ...


class Numbered(Nameless):
    name = 7


class Coroutine(Nameless):
    name = "mine"

    async def stream(self, request: Any) -> Any: ...


class Sync(Nameless):
    name = "mine"

    def stream(self, request: Any) -> Any:
        yield None


class Narrow(Nameless):
    name = "mine"

    def stream(self) -> Any: ...


def of_two(about: Any, more: Any) -> Any: ...


@pytest.mark.covers("fc:A13")
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"model": "gpt-4o"}, "model is 'gpt-4o': write provider:model, such as \"openai:gpt-5\""),
        ({"model": "openai:"}, "write provider:model"),
        ({"model": []}, "model is an empty list: give a model at least"),
        ({"model": ["openai:gpt-5", None]}, "model is None, which has no name"),
        ({"model_settings": "hot"}, "model_settings is 'hot': write a dict"),
        ({"model_settings": {1: 2}}, "model_settings is {1: 2}: write a dict"),
        ({"files": object()}, r"files is .*: write files=Files\(load=…, save=…\)"),
        ({"guards": Guard()}, r"guards is Guard\(.*: write a list of Guard\(…\)"),
        ({"guards": [of_two]}, r"in guards is of_two: write Guard\(before_tool=…\)"),
        ({"model": None}, "model is None, which has no name and no provider and no stream"),
        ({"model": ScriptedModel}, r"model is a class: give an instance of it, ScriptedModel\(…\)"),
        ({"model": object()}, "no name and no provider"),
        ({"model": Nameless()}, "has no name. Give an object with"),
        ({"model": Numbered()}, "its name is 7. Make it text"),
        ({"model": Coroutine()}, "stream is no async generator"),
        ({"model": Sync()}, "stream is no async generator"),
        ({"model": Narrow()}, r"stream is .*not a function of \(request\)"),
        ({"model": of_two}, r"model is of_two, which is not a function of \(about\)"),
        ({"output": dict}, "output is dict: write a subclass of pydantic's BaseModel"),
        ({"output": list[str]}, r"output is list\[str\]: write a subclass"),
        ({"output": Answer(text="x")}, "output is Answer.*: write a subclass"),
        ({"output": BaseModel}, "output is BaseModel: write a subclass"),
        ({"output": "Answer"}, "output is 'Answer'"),
        ({"limits": {}}, r"limits is {}: write limits=Limits\(max_steps=…\)"),
        ({"limits": {"max_steps": 3}}, "limits is {'max_steps': 3}"),
        ({"limits": 5}, "limits is 5"),
        ({"limits": Limits}, "limits is Limits: write"),
        ({"limits": Limits(max_cost=1.0)}, "max_cost needs a price"),
        ({"tools": None}, r"tools is None: write a list of functions decorated with @tool, which may be empty: \[\]"),
        ({"tools": "x"}, "tools is 'x': write a list"),
        ({"tools": {"look": look}}, "tools is {.*: write a list"),
        ({"tools": look}, "tools is Tool.*: write a list"),
        ({"tools": [None]}, "None is not a tool; decorate the function with @tool"),
        ({"tools": ["look"]}, "'look' is not a tool"),
        ({"context": plain}, "context is plain: write a list of functions that load context blocks"),
        ({"context": None}, "context is None: write a list"),
        ({"context": "x"}, "context is 'x'"),
        ({"context": ["x"]}, r"in context is 'x': write a function of \(about\)"),
        ({"context": [ContextBlock("a", "b")]}, "in context is ContextBlock.*: write a function"),
        ({"context": [of_two]}, r"in context is of_two, which is not a function of \(about\)"),
        ({"recent_messages": -1}, "recent_messages is -1: write a whole number of at least 0"),
        ({"recent_messages": True}, "recent_messages is True"),
        ({"recent_messages": "3"}, "recent_messages is '3'"),
        ({"recent_messages": 1.5}, "recent_messages is 1.5"),
        ({"recent_messages": None}, "recent_messages is None"),
        ({"name": None}, "Agent name is None: write text"),
        ({"name": "  "}, "Agent name is '  ': use 1 to 64"),
        ({"name": 7}, "Agent name is 7"),
        ({"name": "a\x00b"}, "characters that can be seen, on one line"),
        ({"name": "\ud800"}, "characters that can be seen, on one line"),
        ({"version": "1\n"}, "characters that can be seen, on one line"),
        ({"recent_messages": 10**30}, "write at most 2147483647"),
        ({"version": 1}, "version is 1: write text, in quotes"),
        ({"version": ""}, "version is '': use 1 to 32"),
        ({"version": None}, "version is None"),
        (
            {"instructions": None},
            r'instructions \(text, "" for none, or a function\) is None: write',
        ),
        ({"instructions": ["a"]}, r"instructions .*is \['a'\]"),
        ({"instructions": of_two}, "instructions .*is of_two, which is not a function"),
        ({"on_busy": "Queue"}, "on_busy must be one of .* It is 'Queue'"),
        ({"on_busy": None}, "on_busy must be one of"),
        ({"on_busy": ["queue"]}, "on_busy must be one of"),
        ({"on_version": "any"}, "on_version must be one of current, strict"),
    ],
)
def test_each_mistake_is_told_with_what_to_write_instead(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        declare(**options)
    assert "looker" not in registry.names()


@pytest.mark.covers("fc:A13")
@pytest.mark.parametrize("name", ["max_steps", "max_tokens", "max_calls", "max_repeats", "max_seconds", "max_cost"])
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), True, "3", [3], -0.5, 10**400])
def test_a_limit_that_is_none_is_refused(name: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"Limits: {name} is .*: write a"):
        Limits(**{name: value})


@pytest.mark.covers("fc:A13")
@pytest.mark.parametrize(
    ("name", "value"),
    [("max_steps", 0), ("max_steps", None), ("max_steps", 2.0), ("max_tokens", 0), ("max_seconds", 0), ("max_cost", 0),
     ("max_repeats", 0), ("price", 3), ("price", "cheap"), ("price", of_two)],
)  # fmt: skip
def test_a_limit_of_nothing_or_a_price_that_cannot_be_asked_is_refused(name: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"Limits: {name} is "):
        Limits(**{name: value})


@pytest.mark.covers("fc:A13")
@pytest.mark.parametrize("block", [("", "x"), (None, "x"), ("a", None), ("a", 3), ("a", "x", "y"), ("a", "x", None)])
def test_a_context_block_that_no_model_can_read_is_refused(block: tuple[Any, ...]) -> None:
    with pytest.raises(UserError, match="ContextBlock"):
        ContextBlock(*block)


@pytest.mark.covers("fc:A13")
def test_what_is_right_is_taken() -> None:
    limits = Limits(1, 1, 0.5, 0, 1, 0.1, lambda usage: 1.0)
    made = declare(
        tools=(item for item in [look]), context=(plain,), output=Answer, limits=limits, recent_messages=0,
        instructions=lambda about: "Look.", version="x" * 32, name="n" * 64,
    )  # fmt: skip
    assert made.definition.limits is limits and set(made.definition.tools_by_name) == {"look"}
    assert declare(name="bare", instructions="", output=None, limits=Limits()).definition.limits == Limits()


@pytest.mark.covers("fc:A13")
@pytest.mark.parametrize("chosen", [None, "gpt-4o", ScriptedModel, Nameless()])
def test_a_function_that_chooses_no_model_is_named_when_it_is_asked(chosen: Any) -> None:
    def pick(about: Any) -> Any:
        return chosen

    with pytest.raises(UserError, match=r"Agent looker: the model, which .*pick chose, is "):
        declare(model=pick).definition.models(pick(None))
