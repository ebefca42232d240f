"""What the benchmarks measure is a whole durable run: one tool call, and every word of the answer in the log."""

from __future__ import annotations

import json

import pytest

from agentcore.streams.models import Record
from agentcore.testing import run_until_idle
from benchmarks import w1
from benchmarks.probes import stored

pytestmark = pytest.mark.django_db


def test_w1_calls_its_tool_once_and_stores_every_word() -> None:
    before = w1.tool_calls
    run = run_until_idle(stored.send_w1(stored.new_thread()))
    assert w1.tool_calls - before == 1
    assert stored.deltas(run).split() == [f"w{number:02d}" for number in range(40)]
    stored.check([run.pk])


def test_a_run_that_lost_a_delta_is_no_result() -> None:
    run = run_until_idle(stored.send_w1(stored.new_thread()))
    for record in Record.objects.filter(stream=run.stream_id):
        if json.loads(bytes(record.data))["type"] == "text.delta":
            Record.objects.filter(stream=run.stream_id, seq=record.seq).delete()
            break
    with pytest.raises(AssertionError, match="stored"):
        stored.check([run.pk])


def test_a_run_that_did_not_end_is_no_result() -> None:
    run = stored.send_w1(stored.new_thread())
    with pytest.raises(AssertionError, match="1 of 1"):
        stored.check([run.pk])
