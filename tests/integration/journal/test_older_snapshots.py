"""What a commit decides, it decides from the rows that it has locked: what it sees of others may be older (law 3)."""

from __future__ import annotations

from typing import Any

import pytest

from agentcore import SYSTEM
from agentcore.declaration.model import ModelRequest, StepFinished, TextDelta
from agentcore.engine.runtime import Runtime
from agentcore.models import Approval, Run
from agentcore.services import approvals, dispatch, execution
from agentcore.testing import Turn
from tests.integration.decision_room import pay
from tests.integration.journal.paused import paused
from tests.integration.room import assert_ended_once, fresh, make, race

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("long_lease"),
]


def driven(run: Run) -> Any:
    """Drive a run as another thread's worker."""
    (outcome,) = race(lambda: execution.drive(run.pk, Runtime("worker")))
    return outcome


class Counts:
    """Says how many answers of the thread it was shown."""

    name, provider = "counts", "tests"

    async def stream(self, request: ModelRequest) -> Any:
        yield TextDelta(str(sum(message.author == "agent" for message in request.messages)))
        yield StepFinished("stop")


@pytest.mark.covers("fc:B1")
def test_a_claim_sees_that_its_thread_has_moved_on_since_its_statement_began() -> None:
    room = make(Counts(), on_busy="parallel")
    first, second = room.send("One"), room.send("Two")
    with paused(second, "w.claims", lambda: execution.drive(first.pk, Runtime("other"))):
        assert driven(second) == "ended"
    said = [run.messages.get(author_kind="agent").text for run in (first, second)]
    assert said == ["0", "1"] and fresh(second).attempt == 1


@pytest.mark.covers("promise:P3")
def test_a_run_does_not_wait_for_what_was_decided_since_its_statement_began() -> None:
    room = make([Turn(calls=[("pay", {"cents": 1})]), Turn(text="Paid.")], [pay])
    run = room.send("Pay.")

    def decide() -> None:
        approval = Approval.objects.get(run=run)
        approvals.approve(approval, user=SYSTEM, digest=approval.digest)

    with paused(run, "w.status = 'waiting'", decide):
        assert driven(run) == "ended"
    assert_ended_once(run, "succeeded")


def test_the_end_of_a_run_tells_the_one_that_was_sent_since_its_statement_began(monkeypatch: Any) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(dispatch, "hint_next", lambda *ended: asked.append(ended))
    room = make([Turn(text="One.")], on_busy="queue")
    first = room.send("One")
    with paused(first, "w.ends", lambda: room.send("Two")):
        assert driven(first) == "ended"
    assert asked == [(first.pk,)]
