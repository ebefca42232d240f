"""Exceptions that an application derives from agentcore's: whatever they leave out, they mean what their base means."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from agentcore import ModelRetry, ToolFailed, tool
from agentcore.engine.drive import Outcome
from agentcore.exceptions import AgentcoreError, EffectUnknown, ModelError, RunError
from agentcore.models import Run, ToolCall
from agentcore.providers import ModelEvent, ModelRequest, TextDelta
from agentcore.testing import Turn
from tests.integration.room import assert_ended_once, drive_as_worker, fresh, make

pytestmark = [pytest.mark.once, pytest.mark.django_db(transaction=True), pytest.mark.covers("fc:A16")]
BASES: list[type[AgentcoreError]] = [ToolFailed, ModelRetry, EffectUnknown]
LONG = "E" * 100_000


def made(base: type[Any], kind: str) -> tuple[BaseException, str]:
    """An exception of a class of the application's, and what is to be said of it."""

    class Plain(base):  # type: ignore[misc]
        def __init__(self, item: str) -> None:
            self.item = item

    class Documented(base):  # type: ignore[misc]
        """Nothing is left.

        For developers: the shelf is empty.
        """

        def __init__(self) -> None:
            self.item = "tea"

    class Speaking(Plain):
        def __str__(self) -> str:
            return f"{self.item} is out of stock."

    class Mute(Plain):
        """It is out of stock."""

        def __str__(self) -> str:
            raise RuntimeError

    class Setting(base):  # type: ignore[misc]
        def __init__(self, message: object) -> None:
            self.message = message

    ways: dict[str, tuple[BaseException, str]] = {
        "no super": (Plain("tea"), "tea"),
        "docstring": (Documented(), "Nothing is left."),
        "own words": (Speaking("tea"), "tea is out of stock."),
        "set": (Setting("Sold out."), "Sold out."),
        "set to nothing": (Setting(None), base().message),
        "set to no text": (Setting(404), "404"),
        "no words": (Mute("tea"), "It is out of stock."),
    }
    return ways[kind]


@pytest.mark.parametrize(
    "kind", ["no super", "docstring", "own words", "no words", "set", "set to nothing", "set to no text"]
)
@pytest.mark.parametrize("base", BASES)
def test_a_class_that_does_not_call_its_base_is_an_answer(base: type[Any], kind: str) -> None:
    @tool
    def act() -> str:
        """Act."""
        raise made(base, kind)[0]

    run = make([Turn(calls=[("act", {})]), Turn(text="Sorry.")], [act]).send()
    assert drive_as_worker(run) in (Outcome.ENDED, Outcome.SUSPENDED)
    call = ToolCall.objects.get()
    assert call.status == ("effect_unverified" if base is EffectUnknown else "failed")
    assert call.error.startswith(made(base, kind)[1])


@pytest.mark.parametrize("message", ["", " \n"])
def test_one_without_words_says_what_its_class_means(message: str) -> None:
    assert ToolFailed(message).message == ToolFailed().message == "The tool failed."
    assert ModelRetry(message).message == "Try this call again, in another way."
    assert RunError(message).message == "The run cannot go on."


def test_the_name_of_an_exception_is_as_long_as_a_sentence_has_room_for() -> None:
    @tool
    def act() -> str:
        """Act."""
        raise type(LONG, (Exception,), {})

    run = make([Turn(calls=[("act", {})]), Turn(text="Sorry.")], [act]).send()
    drive_as_worker(run)
    assert len(ToolCall.objects.get().error) < 300


class Bare(RunError):
    """The shop is closed."""

    code = "closed"

    def __init__(self) -> None:
        self.shop = "tea"


class BareModelError(ModelError):
    """The model is asleep."""

    def __init__(self) -> None:
        self.model = "m"


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


class Raises:
    name, provider = "raises", "tests"

    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        yield TextDelta("hello")
        raise self.error


@pytest.mark.parametrize(
    ("error", "code"), [(BareModelError, "provider_error"), (Bare, "closed"), (Unspeakable, "model_failed")]
)
def test_a_models_own_exceptions_end_the_run(error: type[Any], code: str, settings: Any) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "MODEL_RETRIES": 0}
    run: Run = make(Raises(error)).send()
    assert drive_as_worker(run) is Outcome.ENDED
    assert_ended_once(run, "failed")
    assert fresh(run).error_code == code


def test_a_loaders_own_exception_ends_the_run() -> None:
    def load(about: Any) -> Any:
        raise Bare

    run = make([], context=[load]).send()
    assert drive_as_worker(run) is Outcome.ENDED
    assert (fresh(run).error_code, fresh(run).error_message) == ("closed", "The shop is closed.")
