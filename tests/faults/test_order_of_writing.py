"""What a run has to say is written in its order, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from django.db import OperationalError

from agentcore.engine.runtime import Runtime
from agentcore.exceptions import LeaseLost
from agentcore.journal import writer as journal
from agentcore.providers import ModelEvent, ModelRequest, StepFinished, TextDelta
from agentcore.services import execution
from agentcore.testing import check_invariants
from agentcore.values.events import TextDelta as TextLogged
from tests.integration.room import drive_to_the_end, lapse, log, make


class Talks:
    """Says two things and ends at once, so that the end is on its way behind what was said."""

    name = "talks"
    provider = "tests"

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        yield TextDelta("One. ")
        await asyncio.sleep(0)
        yield TextDelta("Two. ")
        yield StepFinished("stop")


@pytest.mark.django_db
@pytest.mark.covers("promise:P2", "promise:P7", "fault:D11")
@pytest.mark.parametrize("error", [OperationalError("away for longer than the lease"), LeaseLost()])
def test_nothing_is_written_after_a_delta_that_was_not(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    real = journal.commit_batch
    refused: list[Any] = []

    def commit(requests: Sequence[Any]) -> list[Any]:
        if any(isinstance(event, TextLogged) for event in requests[0].commit.events) and not refused:
            refused.append(requests[0])
            return [error]
        return real(requests)

    monkeypatch.setattr(journal, "commit_batch", commit)
    run = make(Talks()).send()
    assert execution.drive(run.pk, Runtime("cut off", inline=True)) == "lost"
    assert [event["type"] for event in log(run)] == ["run.created", "run.started", "step.started"]
    lapse(run)
    assert drive_to_the_end(run).status == "succeeded"
    assert check_invariants([run.pk]) == []
    assert len(refused) == 1
