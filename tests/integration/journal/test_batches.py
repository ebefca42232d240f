"""The rows that a batch is made into, and the one statement that PostgreSQL writes them with."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection, transaction

from agentcore import SYSTEM, Agent
from agentcore.journal import fence, postgres, write
from agentcore.journal.batch import Batch
from agentcore.journal.commit import Claim, Commit, Insert, Move, Request
from agentcore.models import Run, Step
from agentcore.states import StepKind, StepStatus
from agentcore.streams import hints
from agentcore.streams import log as streams
from agentcore.streams.log import Append
from agentcore.values.clock import NOW, Later
from agentcore.values.events import RunReleased, TextDelta
from tests.integration.room import claim, commit, log, statements

pytestmark = pytest.mark.django_db(transaction=True)


def of(commit: Commit) -> Batch:
    return Batch.of([Request(Claim(uuid4(), uuid4(), uuid4(), uuid4(), 1, "test", attempt=1), commit)])


def test_a_commit_that_moves_a_row_twice_is_refused() -> None:
    move = Move(Step(number=1), StepStatus.STARTED, {"status": StepStatus.FINISHED.value})
    with pytest.raises(ValueError, match="twice"):
        of(Commit(moves=[move, move]))


def test_a_commit_that_tells_a_time_of_its_own_is_refused() -> None:
    values = {"status": StepStatus.FINISHED.value, "finished_at": datetime.now(UTC)}
    with pytest.raises(TypeError, match="`Later`"):
        of(Commit(moves=[Move(Step(number=1), StepStatus.STARTED, values)]))


@pytest.mark.parametrize("seconds", [0, 0.25, 90])
def test_a_time_is_stored_as_so_many_seconds_after_the_write(sent: list[Run], seconds: float) -> None:
    taken = claim(sent[0].pk)
    assert taken is not None
    row = Step(run_id=taken.run_id, number=1, kind=StepKind.MODEL, attempt=1)
    moved = Move(row, StepStatus.STARTED, {"status": StepStatus.FINISHED.value, "finished_at": Later(seconds)})
    commit = Commit(events=[TextDelta(1, "x")], inserts=[Insert(row, {"started_at": NOW})], moves=[moved])
    with transaction.atomic():
        write.write([Request(taken, commit)])
    stored = Step.objects.get(pk=row.pk)
    assert stored.finished_at is not None
    assert (stored.finished_at - stored.started_at).total_seconds() == pytest.approx(seconds, abs=0.002)


@pytest.mark.parametrize("said", ["".join(map(chr, range(1, 32))), "\x01", "\\u0001\x04", "\u2028 ä 😀"], ids=ascii)
def test_text_with_control_characters_is_stored_and_announced_as_it_was_said(
    sent: list[Run], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    announced: list[bytes] = []
    publish = lambda written: announced.extend(data for item in written for data in item.payloads)  # noqa: E731
    monkeypatch.setattr("agentcore.streams.hints.publish", publish)
    taken = claim(sent[0].pk)
    assert taken is not None
    announced.clear()
    with transaction.atomic():
        write.write([Request(taken, Commit(events=[TextDelta(1, said)]))])
    (delta,) = [event for event in log(sent[0]) if event["type"] == "text.delta"]
    stored = [bytes(record.data) for record in sent[0].stream.records.order_by("seq")]
    assert delta["text"] == said and announced == stored[-1:]


@pytest.mark.postgres
def test_a_commit_is_one_statement(sent: list[Run]) -> None:
    taken = claim(sent[0].pk)
    assert taken is not None
    request = Request(taken, Commit(events=[TextDelta(1, "x")]))
    with statements() as seen:
        from agentcore.journal.writer import commit_batch  # noqa: PLC0415 - the function under test

        commit_batch([request])
    assert len(seen) == 1


@pytest.mark.postgres
def test_runs_of_one_thread_are_as_many_rows_as_runs(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    thread = agent.threads.create(user=SYSTEM)
    runs = [agent.runs.send(thread, "Add.", user=SYSTEM) for _ in range(5)]
    counts: list[int] = []
    real = postgres.bulk.run

    def counted(text: str, params: Any) -> Any:
        rows = real(text, params)
        counts.append(len(rows))
        return rows

    with transaction.atomic():
        held = fence.hold_all([run.pk for run in runs])
        monkeypatch.setattr(postgres.bulk, "run", counted)
        write.record_all([(row, Commit(thread_events=[row.changed(row.status)])) for row in held.values()])
    assert counts == [5]
    told = [json.loads(bytes(record.data)) for record in thread.stream.records.order_by("seq")][-5:]
    assert {event["run"] for event in told} == {str(run.pk) for run in runs}
    assert [event["seq"] for event in told] == list(range(told[0]["seq"], told[0]["seq"] + 5))


@pytest.mark.postgres
def test_postgresql_does_not_take_any_batch_for_a_hundred_rows(sent: list[Run]) -> None:
    asked: list[tuple[str, Any]] = []
    real = postgres.bulk.run

    def noted(text: str, params: Any) -> Any:
        asked.append((text, params))
        return real(text, params)

    taken = claim(sent[0].pk)
    assert taken is not None
    postgres.bulk.run = noted
    try:
        with transaction.atomic():
            write.write([Request(taken, Commit(events=[TextDelta(1, "x")]))])
    finally:
        postgres.bulk.run = real
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE agentcore_run")  # it knows how small the table is
    ((text, params),) = asked
    plan = "\n".join(line for (line,) in real(f"EXPLAIN {text}", params))
    assert "Update on agentcore_run" in plan and "rows=100 " not in plan


def test_what_is_announced_is_what_is_stored_to_the_last_digit(
    sent: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    announced: list[Append] = []
    taken = claim(sent[0].pk)
    assert taken is not None
    monkeypatch.setattr(hints, "publish", announced.extend)
    seconds = [0.0005 + number * 1.2345678 for number in range(60)]
    commit(taken, Commit([RunReleased("later", Later(each)) for each in seconds]))
    (told,) = [item for item in announced if item.stream_id == taken.stream_id]
    stored = [entry.data for entry in streams.read(taken.stream_id) if entry.seq >= told.first_seq]
    assert stored == told.payloads and len(stored) == 60
