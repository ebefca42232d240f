"""The checker compares messages, arguments, requests and usage with the rows: I15 to I18."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from agentcore import SYSTEM, Decision
from agentcore.models import Message, Run, Step
from agentcore.services import approvals
from agentcore.streams import log as streams
from agentcore.testing import Asked, Evidence, Turn, run_until_idle
from agentcore.values import events
from tests.integration.checker.crime import HAPPENED, Events, acted, falsify, found, gated, make, place, seen, world
from tests.integration.room import Room, log, only_approval

pytestmark = [pytest.mark.once, pytest.mark.django_db]


def edited() -> Run:
    """A run whose call a person has approved with other arguments."""
    run = make([Turn(calls=[("gated", {"text": "this"})]), Turn(text="Done.")], [gated]).play()
    approval = only_approval(run)
    approvals.decide([Decision(approval.pk, "approve", approval.digest, "", {"text": "that"})], user=SYSTEM)
    return run_until_idle(run)


def test_what_a_body_was_given_is_what_was_stored_or_approved() -> None:
    acted(), edited()
    assert [effect.arguments for effect in HAPPENED] == [{"text": "this"}, {"text": "that"}]
    assert seen(world()) == ""


@pytest.mark.parametrize("given", [{"text": "another"}, {}, {"text": "this", "more": 1}])
def test_a_body_that_was_given_something_else_is_found(given: dict[str, Any]) -> None:
    acted()
    HAPPENED[0] = dataclasses.replace(HAPPENED[0], arguments=given)
    assert found(world()) == {"I15"} and "stored is {" in seen(world())


def test_a_body_that_was_given_what_the_person_had_changed_is_found() -> None:
    edited()
    HAPPENED[0] = dataclasses.replace(HAPPENED[0], arguments={"text": "this"})
    assert found(world()) == {"I15"} and "approved is {" in seen(world())


def test_a_world_that_notes_no_arguments_says_nothing_of_them() -> None:
    acted()
    HAPPENED[0] = dataclasses.replace(HAPPENED[0], arguments=None)
    assert found(world()) == set()


def conversation() -> tuple[Room, list[Asked]]:
    """Three runs of a thread, one after the other, and what their models were asked."""
    room = make([Turn(text="First."), Turn(text="Second."), Turn(text="Third.")])
    for _ in range(3):
        room.play()
    return room, [Asked.of(request) for request in room.model.requests]


def test_a_conversation_in_which_everybody_knew_what_was_said_violates_nothing() -> None:
    _, asked = conversation()
    assert [sorted(request.said) for request in asked] == [[], ["First."], ["First.", "Second."]]
    assert seen(Evidence(requests=asked)) == ""


@pytest.mark.covers("fc:B1")
def test_a_request_without_an_earlier_answer_is_found() -> None:
    _, asked = conversation()
    asked[2] = dataclasses.replace(asked[2], said=["First."])
    assert found(Evidence(requests=asked)) == {"I16"} and "'Second.'" in seen(Evidence(requests=asked))


def test_of_a_history_that_was_cut_only_the_latest_answer_is_owed() -> None:
    _, asked = conversation()
    asked[2] = dataclasses.replace(asked[2], said=["Second."], whole=False)
    assert found(Evidence(requests=asked)) == set()
    asked[2] = dataclasses.replace(asked[2], said=["First."])
    assert found(Evidence(requests=asked)) == {"I16"}


def test_nobody_owes_an_answer_that_came_after_the_claim() -> None:
    _, asked = conversation()
    assert [request.attempt for request in asked] == [1, 1, 1]
    asked[1] = dataclasses.replace(asked[1], said=["First."])
    assert found(Evidence(requests=asked)) == set()


@pytest.mark.parametrize("beside", [0, 1])
def test_runs_that_go_side_by_side_owe_each_other_nothing(beside: int) -> None:
    _, asked = conversation()
    Run.objects.filter(pk=asked[beside].run).update(queued=False)
    asked[1] = dataclasses.replace(asked[1], said=[])
    assert found(Evidence(requests=asked)) == set()


def text_beside_parts(run: Run) -> None:
    falsify(run, lambda events: events[place(events, "message")]["message"].update(text="One moment."))


def result_in_its_message(run: Run) -> None:
    def change(events: Events) -> None:
        (part,) = events[place(events, "message", 1)]["message"]["parts"]
        part.update(status="succeeded", result="did this")

    falsify(run, change)


def words_in_the_log_of_the_thread(run: Run) -> None:
    whole = log(run)[place(log(run), "message")]["message"]
    streams.append(run.thread.stream_id, [events.ThreadMessage(whole).encode])


def result_in_the_row_of_its_message(run: Run) -> None:
    told = run.messages.get(author_kind="tool")
    content = {"v": 1, "parts": [{**vars(told.parts[0]), "edited": None}]}
    Message.objects.filter(pk=told.pk).update(content=content)


@pytest.mark.covers("fc:F1", "fc:F2")
@pytest.mark.parametrize(
    ("copy", "told"),
    [
        (text_beside_parts, "holds its text beside its parts"),
        (result_in_its_message, "holds what tool.result holds"),
        (words_in_the_log_of_the_thread, "of the run's log holds"),
        (result_in_the_row_of_its_message, "holds what the row of its call holds"),
    ],
)
def test_what_is_stored_a_second_time_is_found(copy: Callable[[Run], None], told: str) -> None:
    run = acted()
    assert found() == set()
    copy(run)
    assert found() == {"I17"} and told in seen()


def test_usage_that_does_not_add_up_is_found() -> None:
    run = acted()
    assert found() == set()
    Run.objects.filter(pk=run.pk).update(usage={**run.usage, "output_tokens": run.usage["output_tokens"] + 1})
    assert found() == {"I18"}


def test_a_step_that_used_something_else_than_the_log_says_is_found() -> None:
    run = acted()
    step = Step.objects.get(run=run, number=1)
    Step.objects.filter(pk=step.pk).update(usage={**step.usage, "input_tokens": 11})
    assert found() == {"I18"} and "step 1" in seen()


def test_a_usage_that_was_counted_twice_is_found() -> None:
    run = acted()
    falsify(run, lambda events: events.insert(place(events, "usage"), events[place(events, "usage")]))
    assert "I18" in found()
