"""What is deleted while somebody acts on it is not there for them, as if it had never been."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction

from agentcore import SYSTEM
from agentcore.exceptions import NotFound
from agentcore.models import Approval, Run, Thread, ToolCall
from agentcore.services import approvals, deletion, dispatch, runs, unverified
from agentcore.testing import Turn, run_until_idle
from tests.integration.room import make
from tests.testapp import agents

pytestmark = pytest.mark.django_db


@pytest.fixture
def owed(make_thread: Callable[..., Any]) -> Approval:
    """An approval that a waiting run is owed."""
    thread = make_thread("gated")
    run_until_idle(agents.gated.runs.send(thread, "go", user=thread.owner))
    return Approval.objects.get()


@pytest.mark.covers("fc:D1")
def test_a_run_whose_thread_is_deleted_while_it_is_canceled_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    run = make([Turn(text="Hello.")]).send()
    monkeypatch.setattr(dispatch, "hint_next", lambda run_id: deletion.delete(run.thread_id, user=SYSTEM))
    with pytest.raises(NotFound):
        runs.cancel(run, user=SYSTEM)
    assert not Thread.objects.filter(pk=run.thread_id).exists()


@pytest.mark.covers("fc:D1")
def test_an_approval_whose_thread_is_deleted_before_it_is_decided_is_not_found(
    owed: Approval, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold_all = approvals.fence.hold_all

    def deleted_first(run_ids: Any) -> Any:
        monkeypatch.setattr(approvals.fence, "hold_all", hold_all)
        deletion.remove(owed.run.thread_id)
        return hold_all(run_ids)

    monkeypatch.setattr(approvals.fence, "hold_all", deleted_first)
    with pytest.raises(NotFound):
        approvals.deny(owed, user=SYSTEM, digest=owed.digest)


@pytest.mark.covers("fc:D1")
@pytest.mark.django_db(transaction=True)
def test_a_decision_is_answered_although_its_thread_is_deleted_right_after_it(
    owed: Approval, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approvals, "failpoint", lambda name: deletion.remove(owed.run.thread_id))
    assert approvals.deny(owed, user=SYSTEM, digest=owed.digest).status == "denied"
    assert not Thread.objects.exists()


@pytest.mark.covers("fc:D1")
@pytest.mark.django_db(transaction=True)
def test_an_answer_is_answered_although_its_thread_is_deleted_right_after_it(
    owed: Approval, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, call = Run.objects.get(), ToolCall.objects.get()
    owed.delete()
    ToolCall.objects.update(status="effect_unverified")
    record = approvals.record

    def then_delete(*args: Any) -> None:
        transaction.on_commit(lambda: deletion.remove(run.thread_id))
        record(*args)

    monkeypatch.setattr(unverified.approvals, "record", then_delete)
    assert unverified.resolve(run, call.call_id, "give_up", user=SYSTEM).status == "failed"
    assert not Thread.objects.exists()
