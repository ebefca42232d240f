"""What a hook of the application's raises ends its run, whatever it is; that the database is away does not."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from django.conf import LazySettings
from django.db import InterfaceError, OperationalError
from pydantic import BaseModel, Field, field_validator

from agentcore import Checkable, Limits, Tool, tool
from agentcore.access import OwnerPolicy
from agentcore.engine import application
from agentcore.engine.drive import Outcome
from agentcore.exceptions import ModelError
from agentcore.models import Run
from agentcore.testing import Turn
from tests.integration.room import assert_ended_once, drive_as_worker, fresh, make

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.covers("fc:A11")]


class OfAnotherModel(ModelError):
    """What a hook that asks a model of its own lets through."""

    def __init__(self) -> None:
        super().__init__("slow down", code="rate_limited")


ERRORS = [OperationalError, InterfaceError, KeyError, KeyboardInterrupt, OfAnotherModel]
ASKED: list[type[BaseException]] = []


@pytest.fixture(autouse=True)
def _nothing_asked() -> None:
    ASKED.clear()


class Policy(OwnerPolicy):
    """Asks another database, which is away; or, where nothing is to be raised, for too long."""

    def may_run(self, run: Any, call: Any) -> bool:
        return raises() if ASKED else hangs()


def raises(*args: Any) -> Any:
    raise ASKED[-1]


def hangs(*args: Any) -> Any:
    time.sleep(1)


async def raises_later(*args: Any) -> Any:
    raise ASKED[-1]


class Answer(BaseModel):
    """Is looked up in a database that is away."""

    text: str

    @field_validator("text")
    @classmethod
    def _known(cls, text: str) -> str:
        raise ASKED[-1]


def acting(**options: Any) -> Tool:
    @tool(name="act", **options)
    def act() -> str:
        """Act."""
        return "done"

    return act


Options = dict[str, Any]
HOOKS: dict[str, tuple[Callable[[Any], tuple[Any, list[Tool], Options]], str]] = {
    "price": (lambda hook: ([], [], {"limits": Limits(max_cost=1, price=hook)}), "price_failed"),
    "loader": (lambda hook: ([], [], {"context": [hook]}), "context_failed"),
    "instructions": (lambda hook: ([], [], {"instructions": hook}), "context_failed"),
    "model": (lambda hook: (lambda about: hook(), [], {}), "model_failed"),
    "needs_approval": (
        lambda hook: ([Turn(calls=[("act", {})])], [acting(needs_approval=hook)], {}),
        "needs_approval_failed",
    ),
    "policy": (lambda hook: ([Turn(calls=[("act", {})])], [acting()], {}), "policy_failed"),
}


def sent(hook: str, function: Any, settings: LazySettings) -> Run:
    if hook == "policy":
        settings.AGENTCORE = {**settings.AGENTCORE, "ACCESS_POLICY": f"{__name__}.Policy"}
    model, tools, options = HOOKS[hook][0](function)
    return make(model, tools, **options).send()


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
@pytest.mark.parametrize("function", [raises, raises_later])
@pytest.mark.parametrize("hook", HOOKS)
def test_a_hooks_error_of_any_kind_ends_the_run_with_its_code(
    hook: str, function: Any, error: type[BaseException], settings: LazySettings
) -> None:
    ASKED.append(error)
    run = sent(hook, function, settings)
    assert drive_as_worker(run) is Outcome.ENDED
    assert_ended_once(run, "failed")
    found = fresh(run)
    assert found.error_code == HOOKS[hook][1] and error.__name__ in found.error_detail
    assert found.error_message.endswith("whoever runs this site.")


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_that_finds_the_database_away_is_asked_again_later(hook: str, settings: LazySettings) -> None:
    ASKED.append(OperationalError)
    run = sent(hook, raises, settings)
    with mock.patch.object(application, "_read_again", side_effect=OperationalError("no connection")):
        assert drive_as_worker(run) is Outcome.LOST
    assert fresh(run).status in ("pending", "running"), "whoever takes it over asks again"


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_that_hangs_ends_the_run(hook: str, settings: LazySettings) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "TOOL_TIMEOUT": 0.2}
    run = sent(hook, hangs, settings)
    assert drive_as_worker(run) is Outcome.ENDED
    assert fresh(run).error_code == HOOKS[hook][1]


def test_validators_defaults_and_checks_with_a_database_of_their_own() -> None:
    """They have ends of their own: the call's, or the output's."""
    ASKED.append(OperationalError)

    @tool(effect=Checkable(raises))
    def break_off(text: str = Field(default_factory=lambda: "x")) -> None:
        """Break off."""
        raise ConnectionError

    @tool(effect="pure")
    def validated(answer: Answer) -> None:
        """Never run."""

    @tool(effect="pure")
    def defaulted(text: str = Field(default_factory=raises)) -> None:
        """Never run."""

    calls: list[Any] = [("validated", {"answer": {"text": "x"}}), ("defaulted", {}), ("break_off", {})]
    tools = [break_off, validated, defaulted]
    run = make([Turn(calls=calls), Turn(output={"text": "x"})], tools, output=Answer).send()
    assert drive_as_worker(run) is Outcome.ENDED
    assert (fresh(run).status, fresh(run).error_code) == ("failed", "value_not_kept")
    calls_by_name = {call.name: call for call in run.tool_calls.all()}
    assert {call.status for call in calls_by_name.values()} == {"failed"}
    for name in ("validated", "defaulted"):
        assert f"a mistake in its tool {name}, which was not run" in calls_by_name[name].error
    told = calls_by_name["break_off"].error
    assert "broke off with ConnectionError" in told and "may have acted in part" in told
    assert told.endswith("Whether it took effect could not be checked (OperationalError).")


def test_an_output_that_its_class_cannot_look_up_ends_the_run() -> None:
    ASKED.append(OperationalError)
    run = make([Turn(output={"text": "x"})], output=Answer).send()
    assert drive_as_worker(run) is Outcome.ENDED
    assert (fresh(run).status, fresh(run).error_code) == ("failed", "value_not_kept")
