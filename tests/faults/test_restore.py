"""A backup is restored to an earlier time: what was lost is doubted, and what survived of it may not write."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from agentcore import SYSTEM
from agentcore.models import Run, ToolCall
from agentcore.services import unverified
from tests.faults import backup
from tests.faults.openings import freeze_between_writes, inside_its_tool
from tests.faults.runs import LONG, events, send, status, wait_for_success
from tests.stack import Stack, wait_for
from tests.testapp import agents


def recover() -> str:
    said = StringIO()
    call_command("agentcore_recover", "--after-restore", stdout=said)
    return said.getvalue()


@pytest.mark.covers("fault:O8", "promise:P4", "promise:P5")
@pytest.mark.parametrize("agent", ["worker_bee", "careful_bee"])
def test_a_call_that_was_executing_at_the_time_of_the_backup_waits_for_a_person(
    stack: Stack, make_thread: Callable[..., Any], tmp_path: Path, agent: str
) -> None:
    run, worker = inside_its_tool(stack, getattr(agents, agent), make_thread)
    file = backup.take(tmp_path)
    stack.release_tools()
    wait_for_success(run)
    worker.sigterm()
    backup.restore(file)
    assert status(run) == "running"
    assert "1 calls may have taken effect" in recover()
    call = ToolCall.objects.get(run=run)
    assert (status(run), call.status) == ("pending", "effect_unverified")
    stack.sweeper()
    stack.worker()
    wait_for(lambda: status(run) == "waiting", LONG, "the run to wait for a person")
    assert len(stack.effects()) == 1
    unverified.resolve(run, call.call_id, "happened", user=SYSTEM, result="done")
    wait_for_success(run)
    assert len(stack.effects()) == 1


@pytest.mark.covers("fault:O8", "promise:P2")
def test_a_worker_that_survived_the_restore_writes_nothing_more(
    stack: Stack, make_thread: Callable[..., Any], tmp_path: Path
) -> None:
    run = send(agents.endless, make_thread("endless"))
    file = backup.take(tmp_path)
    survivor = stack.worker()
    wait_for(lambda: texts(run), LONG, "the first text")
    freeze_between_writes(survivor, run)
    backup.restore(file)
    assert (status(run), Run.objects.get(pk=run.pk).attempt) == ("pending", 0)
    recover()
    stack.sweeper()
    stack.worker()
    wait_for(lambda: len(texts(run)) > 3, LONG, "another worker's text")
    survivor.thaw()
    wait_for(lambda: "let go: lost" in survivor.text, LONG, "the survivor to notice")
    so_far = len(texts(run))
    wait_for(lambda: len(texts(run)) > so_far + 3, LONG, "more of the other worker's text")
    words = "".join(texts(run)).split()
    assert words == [str(number) for number in range(len(words))]


def texts(run: Run) -> list[str]:
    return [event["text"] for event in events(run) if event["type"] == "text.delta"]


@pytest.mark.django_db
def test_nothing_is_recovered_by_accident() -> None:
    with pytest.raises(CommandError, match="Say --after-restore"):
        call_command("agentcore_recover")
