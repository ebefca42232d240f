"""The checker reads a log as the one writer must have written it: I2, I7 and I8."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from agentcore.models import Message, Run, Step, ToolCall
from agentcore.providers import FileProduced, ProviderCalled, ProviderReturned, SourceFound, StepFinished, TextDelta
from agentcore.streams.models import Record
from agentcore.testing import Evidence, Turn
from tests.integration.checker.crime import Events, acted, allowed, falsify, found, place, seen, store, waiting
from tests.integration.room import Died, die_driving, drive_to_the_end, log, make
from tests.integration.says import Says
from tests.testapp.scripts import Slow

pytestmark = [pytest.mark.once, pytest.mark.django_db]


def test_true_runs_violate_nothing() -> None:
    for run in (acted, allowed, waiting):
        run()
    assert seen() == ""


def test_a_run_that_was_taken_over_in_the_middle_of_a_sentence_violates_nothing() -> None:
    class Dies(Slow):
        async def stream(self, request: Any) -> Any:
            async for event in Slow(pieces=3, pause=0.1).stream(request):
                yield event
                if request.attempt == 1 and getattr(event, "text", "") == "1 ":
                    Died()

    run = make(Dies()).send()
    die_driving(run)
    drive_to_the_end(run)
    assert "step.reset" in [event["type"] for event in log(run)]
    assert seen() == ""


def test_a_run_that_has_mended_its_output_violates_nothing() -> None:
    class Note(BaseModel):
        text: str

    turns = [Turn(text="Noted.", output={"wrong": 1}), Turn(output={"text": "x"})]
    assert make(turns, output=Note).play().status == "succeeded"
    assert seen() == ""


def twice(kind: str, nth: int = 0) -> Callable[[Events], None]:
    def change(events: Events) -> None:
        index = place(events, kind, nth)
        events.insert(index, events[index])

    return change


def moved(kind: str, behind: str, nth: int = 0) -> Callable[[Events], None]:
    def change(events: Events) -> None:
        event = events.pop(place(events, kind, nth))
        events.insert(place(events, behind) + 1, event)

    return change


def without(kind: str) -> Callable[[Events], None]:
    return lambda events: events.pop(place(events, kind))


def changed(kind: str, nth: int = 0, **values: Any) -> Callable[[Events], None]:
    return lambda events: events[place(events, kind, nth)].update(values)


def step_again(events: Events) -> None:
    """The whole last step, a second time, before the end: what two writers leave behind."""
    first, last = place(events, "step.started", -1), place(events, "done")
    events[last:last] = events[first:last]


def zombie(events: Events) -> None:
    """A second worker takes over after the tool, and the first one's next step still comes."""
    events.insert(place(events, "step.started", -1), {"v": 1, "type": "run.started", "attempt": 2, "ts": ""})


def late_reset(events: Events) -> None:
    reset = {"v": 1, "type": "step.reset", "step": 3, "attempt": 0, "reason": "worker_lost", "ts": ""}
    events.insert(place(events, "step.finished", -1), reset)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (step_again, "step 3 after 3 finished ones"),
        (twice("text.delta"), "streamed 'One One moment.'"),
        (twice("text.delta", -1), "and is kept as 'It is done.'"),
        (moved("text.delta", "step.finished"), "which is not streaming"),
        (twice("step.started"), "step 1 is still open"),
        (twice("step.finished"), "step 1 has finished"),
        (without("step.finished"), "step 1 is still open"),
        (twice("usage"), "counts step 1 once more"),
        (twice("message"), "repeats message"),
        (without("message"), "messages: the log has"),
        (twice("tool.call"), "again"),
        (twice("run.started"), "is attempt 1 after 1"),
        (twice("run.created"), "begins with run.created"),
        (zombie, "is of attempt 1, while 2 has the run"),
        (late_reset, "is of attempt 0, while 1 has the run"),
        (changed("step.started", 1, attempt=7), "is of attempt 7"),
        (changed("text.delta", text="Something else "), "streamed 'Something else moment.'"),
        (changed("tool.call", call_id="call_other"), "which nobody asked for"),
    ],
)
def test_the_log_of_two_writers_is_found_out(change: Callable[[Events], None], says: str) -> None:
    run = acted()
    falsify(run, change)
    assert "I2" in found()
    assert says in seen() and str(run.pk) in seen()


@pytest.mark.parametrize("kind", ["source", "file", "provider.call", "provider.result"])
def test_what_an_answer_shows_after_its_step_is_found_out(kind: str) -> None:
    answer = [
        SourceFound("Atlas"),
        FileProduced("image/png", url="https://files.example/a.png"),
        ProviderCalled("p", "web_search"),
        ProviderReturned("p", "web_search", 1),
        TextDelta("Done."),
        StepFinished("stop"),
    ]
    run = make(Says(answer)).play()
    assert seen() == ""
    falsify(run, moved(kind, "step.finished"))
    assert "I2" in found() and "which is not streaming" in seen()


def test_a_gap_is_found() -> None:
    run = acted()
    Record.objects.filter(stream=run.stream_id, seq=5).delete()
    assert "I2" in found() and "records 0-4, 6-" in seen()


def test_an_event_that_was_allocated_and_never_written_is_found() -> None:
    run = acted()
    Run.objects.filter(pk=run.pk).update(next_seq=run.next_seq + 1)
    assert found() == {"I2"}


def test_a_record_that_says_it_is_another_is_found() -> None:
    run = acted()
    record = Record.objects.get(stream=run.stream_id, seq=3)
    Record.objects.filter(stream=run.stream_id, seq=3).update(data=bytes(record.data).replace(b'"seq":3', b'"seq":4'))
    assert found() == {"I2"} and "record 3 says that it is 4" in seen()


def test_a_record_that_cannot_be_read_is_found() -> None:
    run = acted()
    Record.objects.filter(stream=run.stream_id, seq=3).update(data=b"\xff\xfe")
    assert "I2" in found()


@pytest.mark.parametrize("model", [Step, Message, ToolCall])
def test_a_row_that_is_gone_is_found(model: Any) -> None:
    run = acted()
    model.objects.filter(run=run).order_by("-pk").first().delete()
    assert "I2" in found()


def test_work_on_a_run_that_waits_is_found() -> None:
    run = waiting()
    started = {"type": "step.started", "step": 2, "kind": "tools", "attempt": 1, "ts": ""}
    falsify(run, lambda events: events.append(started))
    assert "I2" in found() and "although the run waits" in seen()


@pytest.mark.parametrize("change", [twice("done"), lambda events: events.append({"type": "usage", "step": 3})])
def test_an_event_after_the_terminal_one_is_found(change: Callable[[Events], None]) -> None:
    falsify(acted(), change)
    assert "I7" in found() and "comes after done" in seen()


def test_an_end_that_differs_from_the_rows_is_found() -> None:
    falsify(acted(), changed("done", status="failed"))
    assert found() == {"I7"}


def test_an_end_without_its_event_is_found() -> None:
    falsify(acted(), without("done"))
    assert found() == {"I7"}


def test_an_end_of_a_run_that_goes_on_is_found() -> None:
    run = waiting()
    store(run, [{"v": 1, "seq": run.next_seq, "type": "done", "status": "failed"}])
    Run.objects.filter(pk=run.pk).update(next_seq=run.next_seq + 1)
    assert found() == {"I7", "I8"}  # and the call it waited for has no result


def test_a_call_with_two_results_is_found() -> None:
    falsify(acted(), twice("tool.result"))
    assert found() == {"I8"} and "one more result" in seen()


def test_a_model_that_was_asked_before_a_call_had_its_result_is_found() -> None:
    run = acted()

    def late(events: Events) -> None:
        result = events.pop(place(events, "tool.result"))
        events.insert(place(events, "step.started", -1) + 1, result)

    falsify(run, late)
    assert found() == {"I8"} and "has no result" in seen()


@pytest.mark.parametrize("copies", [0, 2])
def test_a_call_must_have_exactly_one_result_message(copies: int) -> None:
    run = acted()
    if copies:  # a second one can only stand among the words of another message
        said = Message.objects.filter(run=run, author_kind="agent")
        again = {"type": "tool-result", "call_id": run.tool_calls.get().call_id, "name": "act", "status": "succeeded"}
        said.update(content={"v": 1, "parts": [again]})
        said.exclude(pk=said.in_order()[0].pk).delete()
    else:
        Message.objects.filter(run=run, author_kind="tool").update(tool_call=None)
    assert "I8" in found() and f"has {copies} result messages" in seen()


def test_what_is_under_way_is_no_violation_where_nothing_is_calm() -> None:
    make([Turn(text="Hi")]).send()
    assert found() == {"I1"}
    assert found(Evidence(calm=False)) == set()
