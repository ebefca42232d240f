"""Validators of the application's may block, use the database, or hang: the event loop and its other runs go on."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Any

import pytest
from asgiref.sync import async_to_sync
from django.conf import LazySettings
from django.contrib.auth.models import Group
from pydantic import AfterValidator, BaseModel

from agentcore import tool
from agentcore.engine.drive import Outcome
from agentcore.engine.runtime import Runtime
from agentcore.models import Run
from agentcore.services import execution
from agentcore.testing import Turn
from tests.integration.room import drive_as_worker, fresh, make, race

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.covers("fc:A2")]
VALIDATED: list[str] = []
SECONDS = 0.3


@pytest.fixture(autouse=True)
def _nothing_validated() -> None:
    VALIDATED.clear()


def slow(text: str) -> str:
    VALIDATED.append(threading.current_thread().name)
    time.sleep(SECONDS)
    return text


def looked_up(text: str) -> str:
    if not Group.objects.filter(name=text).exists():
        raise ValueError("there is no such group")
    return text


Slow = Annotated[str, AfterValidator(slow)]
Known = Annotated[str, AfterValidator(looked_up)]


class Answer(BaseModel):
    text: Slow


def longest_pause(run: Run) -> float:
    """Drive a run as one of many, and return how long the event loop stood still at most."""
    pauses = [0.0]

    async def tick() -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.005)
            pauses.append(time.monotonic() - last)
            last = time.monotonic()

    async def drive() -> None:
        runtime = Runtime("worker", alone=False, own_threads=True)
        ticker = asyncio.create_task(tick())
        try:
            assert await execution.adrive(run.pk, runtime) is Outcome.ENDED
        finally:
            ticker.cancel()
            with suppress(asyncio.CancelledError):
                await ticker
            await runtime.aclose()

    (failure,) = race(lambda: async_to_sync(drive)())
    assert failure is None, failure
    return max(pauses)


@pytest.mark.parametrize("effect", ["unsafe", "atomic"])
def test_arguments_are_validated_beside_the_loop(effect: str) -> None:
    @tool(effect=effect)
    def act(text: Slow) -> str:
        """Act."""
        return text

    run = make([Turn(calls=[("act", {"text": "x"})]), Turn(text="Done.")], [act]).send()
    assert longest_pause(run) < SECONDS * 0.8
    assert run.tool_calls.get().status == "succeeded"
    assert len(VALIDATED) >= 4 and all("agentcore-app" in name for name in VALIDATED)


def test_an_output_is_validated_beside_the_loop() -> None:
    run = make([Turn(output={"text": "x"})], output=Answer).send()
    assert longest_pause(run) < SECONDS * 0.8
    assert fresh(run).output == {"text": "x"}


def test_plain_types_are_validated_where_they_are() -> None:
    @tool(effect="pure")
    def act(text: str, number: int = 1) -> str:
        """Act."""
        return text

    assert not act.signature.arguments.runs_code
    assert tool(name="other")(lambda_of(Slow)).signature.arguments.runs_code


def lambda_of(annotation: Any) -> Callable[..., Any]:
    def take(value: Any) -> Any:
        return value

    take.__annotations__["value"] = annotation
    return take


@pytest.mark.parametrize("alone", [True, False])
def test_a_validator_may_ask_the_database(alone: bool) -> None:
    @tool
    async def act(text: Known) -> str:
        """Act."""
        return text

    Group.objects.create(name="staff")
    turns = [Turn(calls=[("act", {"text": "staff"}), ("act", {"text": "nobody"})]), Turn(text="Done.")]
    run = make(turns, [act]).send()
    drive_as_worker(run, alone=alone)
    known, unknown = run.tool_calls.order_by("position")
    assert (known.status, unknown.status) == ("succeeded", "failed"), known.error
    assert "there is no such group" in unknown.error


def test_a_validator_that_hangs_is_not_waited_for(settings: LazySettings) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "TOOL_TIMEOUT": 0.1}

    @tool
    def act(text: Slow) -> str:
        """Act."""
        return text

    run = make([Turn(calls=[("act", {"text": "x"})]), Turn(output={"text": "x"})], [act], output=Answer).send()
    drive_as_worker(run)
    call = run.tool_calls.get()
    assert call.status == "failed" and "was not run" in call.error
    assert (fresh(run).status, fresh(run).error_code) == ("failed", "value_not_kept")
    time.sleep(SECONDS)
