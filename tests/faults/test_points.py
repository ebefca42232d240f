"""Each point stands where its name says: what it breaks off has not happened, and what came before has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import AbstractUser
from rq import Queue

from agentcore import SYSTEM
from agentcore.jobs.single import execute_run
from agentcore.models import Run, Thread
from agentcore.services import execution
from agentcore.testing.faults.actions import FailpointRaised
from agentcore.testing.faults.plans import armed
from tests.faults.runs import assert_log_is_whole, send, status
from tests.testapp import agents

pytestmark = pytest.mark.django_db(transaction=True)


def test_job_entry_is_before_the_claim(thread: Thread) -> None:
    run = send(agents.echo, thread)
    with armed(job_entry="raise"), pytest.raises(FailpointRaised):
        execute_run(str(run.pk))
    assert (status(run), Run.objects.get(pk=run.pk).attempt) == ("pending", 0)


def test_before_enqueue_is_after_the_commit_and_before_the_job(thread: Thread, queue: Queue) -> None:
    with armed(before_enqueue="raise") as marks:
        run = send(agents.echo, thread)
        assert marks.fired("before_enqueue") == 1
    assert status(run) == "pending" and queue.job_ids == []


def test_after_approval_commit_is_before_the_job(
    make_thread: Callable[..., Any], operator: AbstractUser, queue: Queue
) -> None:
    run = send(agents.gated, make_thread("gated"))
    execution.drive(run.pk)
    queue.empty()
    approval = run.approvals.get()
    with armed(after_approval_commit="raise"), pytest.raises(FailpointRaised):
        agents.gated.tools.approve(approval.pk, user=SYSTEM, digest=approval.digest)
    approval.refresh_from_db()
    assert (approval.status, status(run), queue.job_ids) == ("approved", "pending", [])


@pytest.mark.covers("fault:R11")
def test_a_hint_that_cannot_be_sent_is_no_concern_of_the_run(thread: Thread) -> None:
    with armed(before_hint="raise*") as marks:
        run = send(agents.echo, thread)
        execution.drive(run.pk)
        assert marks.fired("before_hint") > 0
    assert status(run) == "succeeded"
    assert_log_is_whole(run)
