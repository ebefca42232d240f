"""What the benchmarks measure are whole durable runs: each tool call once, and every word of the answer in the log."""

from __future__ import annotations

import json

import pytest

from agentcore.models import Step, ToolCall
from agentcore.streams.models import Record
from agentcore.testing import run_until_idle
from benchmarks import workload
from benchmarks.probes import stored
from benchmarks.workload import W1, W2, Workload

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("which, calls, words", [(W1, 1, 40), (W2, 16, 400)], ids=["w1", "w2"])
def test_a_workload_calls_its_tool_so_often_and_stores_every_word(which: Workload, calls: int, words: int) -> None:
    before = workload.tool_calls
    run = run_until_idle(stored.send(stored.new_thread(), which))
    assert workload.tool_calls - before == calls == ToolCall.objects.filter(run=run, status="succeeded").count()
    assert Step.objects.filter(run=run, kind="model").count() == which.rounds + 1
    assert stored.deltas(run).split() == [f"w{number:02d}" for number in range(words)]
    stored.check([run.pk], which)


def test_a_run_that_lost_a_delta_is_no_result() -> None:
    run = run_until_idle(stored.send(stored.new_thread()))
    for record in Record.objects.filter(stream=run.stream_id):
        if json.loads(bytes(record.data))["type"] == "text.delta":
            Record.objects.filter(stream=run.stream_id, seq=record.seq).delete()
            break
    with pytest.raises(AssertionError, match="stored"):
        stored.check([run.pk])


def test_a_run_that_did_not_end_is_no_result() -> None:
    run = stored.send(stored.new_thread())
    with pytest.raises(AssertionError, match="1 of 1"):
        stored.check([run.pk])
