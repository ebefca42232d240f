"""The checker finds what a deletion has left: I19."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from django.utils import timezone

from agentcore import SYSTEM
from agentcore.models import Run, Thread
from agentcore.services import deletion
from agentcore.streams import log
from agentcore.streams.models import Record, Stream
from agentcore.testing import Evidence
from agentcore.testing.faults.checker import Answer
from tests.integration.checker.crime import acted, found, seen, waiting

pytestmark = pytest.mark.django_db


def test_a_thread_that_was_deleted_whole_leaves_nothing() -> None:
    run, other = acted(), acted()
    deletion.delete(run.thread_id, user=SYSTEM)
    known = Evidence(deleted=[run.thread_id], answers=[Answer(run.thread_id, run.agent, "key", run.pk)])
    assert seen(known) == ""
    assert Run.objects.filter(pk=other.pk).exists()


def test_a_run_that_was_accepted_and_is_gone_is_found_unless_its_thread_was_deleted() -> None:
    run = acted()
    deletion.delete(run.thread_id, user=SYSTEM)
    assert found(Evidence(answers=[Answer(run.thread_id, run.agent, "key", run.pk)])) == {"I1"}


@pytest.mark.parametrize("name", ["run:{}", "thread:{}"])
def test_a_log_that_was_left_behind_is_found(name: str) -> None:
    acted()
    log.create(name.format(uuid4()))
    assert found() == {"I19"} and name.format("") in seen()


def test_a_log_of_the_project_itself_is_nobodys_business() -> None:
    log.create("orders")
    assert found() == set()


def test_records_that_were_left_behind_are_found() -> None:
    run = acted()
    stream_id = run.stream_id
    kept = list(Record.objects.filter(stream=stream_id))
    deletion.delete(run.thread_id, user=SYSTEM)
    assert not Stream.objects.filter(pk=stream_id).exists()
    Record.objects.bulk_create(kept)
    assert found() == {"I19"} and str(stream_id) in seen()


def test_a_thread_that_should_be_gone_is_found_once_all_is_calm() -> None:
    run = waiting()
    Thread.objects.filter(pk=run.thread_id).update(removal_due_at=timezone.now() + timedelta(hours=1))
    assert found(Evidence(calm=False)) == set()
    assert found() == {"I19"}


def test_a_thread_that_somebody_deleted_and_that_is_not_even_hidden_is_found() -> None:
    run = acted()
    assert found(Evidence(deleted=[run.thread_id])) == {"I19"}
    assert "was deleted and is still there" in seen(Evidence(deleted=[run.thread_id]))
