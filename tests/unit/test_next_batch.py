"""Which requests of a journal go into the next batch, and when it waits before it sends another."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import IntegrityError, OperationalError

from agentcore.exceptions import CancelRequested, LeaseLost
from agentcore.journal import writer
from agentcore.journal.commit import Allocation, Claim, Commit, Move, Moved, RowHeld
from agentcore.journal.writer import Journal, Sent
from agentcore.models import ToolCall
from agentcore.states import ToolCallStatus
from agentcore.values.events import TextDelta

pytestmark = pytest.mark.once


def claim(thread: UUID | None = None, *, thread_seq: int | None = None) -> Claim:
    return Claim(uuid4(), thread or uuid4(), uuid4(), uuid4(), 1, "test", attempt=1, thread_seq=thread_seq)


async def never(*args: Any) -> Any:
    await asyncio.Event().wait()


async def sent(*requests: tuple[Any, ...]) -> Journal:
    """A journal with requests that wait, none of them under way: of each its claim, its commit, if it claims."""
    journal = Journal(never)
    for one, commit, *claims in requests:
        journal.send(one, commit, claims=bool(claims))
    assert journal._writing is not None
    journal._writing.cancel()
    await asyncio.wait([journal._writing])
    return journal


def claims_of(journal: Journal) -> list[Claim]:
    return [item.request.row for item in journal._next_batch() if isinstance(item.request.row, Claim)]


def says(*texts: str, **more: Any) -> Commit:
    return Commit([TextDelta(1, text) for text in texts], **more)


def moves(*calls: ToolCall) -> Commit:
    return Commit(moves=[Move(call, ToolCallStatus.RUNNING, {"status": ToolCallStatus.SUCCEEDED}) for call in calls])


def said_of(batch: list[Sent]) -> list[list[str]]:
    return [[event.text for event in item.request.commit.events if isinstance(event, TextDelta)] for item in batch]


async def test_what_a_run_has_ready_is_one_request_whose_commits_are_each_told_their_own_place() -> None:
    one, other = claim(), claim()
    journal = await sent((one, says("a", "b")), (other, says("x")), (one, says("c")), (one, says("d")))
    waiting = [answer for item in journal._waiting for _, answer in item.answers]
    batch = journal._next_batch()
    assert said_of(batch) == [["a", "b", "c", "d"], ["x"]] and journal._next_batch() == []
    assert not journal._answer(batch, [Allocation(7, cancel_requested=False), Allocation(0, cancel_requested=False)])
    assert [answer.result().first_seq for answer in waiting] == [7, 0, 9, 10]
    assert batch[0].request.end.seq == 11


async def test_commits_that_move_the_same_row_are_written_one_after_the_other() -> None:
    one, call, other = claim(), ToolCall(pk=uuid4()), ToolCall(pk=uuid4())
    journal = await sent((one, moves(call)), (one, moves(other)), (one, moves(call)))
    batches = [[len(item.answers) for item in journal._next_batch()] for _ in range(3)]
    assert batches == [[2], [1], []]


async def test_a_claim_goes_alone_of_its_run() -> None:
    one = claim()
    journal = await sent((one, says("a"), True), (one, says("b")), (one, says("c")))
    assert [said_of(journal._next_batch()) for _ in range(3)] == [[["a"]], [["b", "c"]], []]


async def test_what_was_sent_under_another_claim_is_another_request() -> None:
    one = claim()
    taken_over = replace(one, attempt=2)
    for first, second in (((one,), (taken_over, True)), ((taken_over,), (one,)), ((one,), (taken_over,))):
        journal = await sent((first[0], says("a")), (second[0], says("b"), *second[1:]))
        batches = [journal._next_batch() for _ in range(2)]
        assert [said_of(batch) for batch in batches] == [[["a"]], [["b"]]]
        assert [batch[0].request.row for batch in batches] == [first[0], second[0]]


async def test_what_may_have_been_written_is_not_written_again_where_the_writing_breaks_off() -> None:
    one = claim()
    for broken_off in (asyncio.CancelledError(), KeyboardInterrupt()):
        journal = await sent((one, says("a")), (one, says("b")))
        answers = [answer for item in journal._waiting for _, answer in item.answers]
        journal._answer(journal._next_batch(), [broken_off])
        assert all(answer.done() for answer in answers) and journal._next_batch() == []
        for answer in answers:
            answer.exception()


@pytest.mark.parametrize("refusal", [Moved(), CancelRequested(), IntegrityError()])
async def test_what_is_refused_together_is_written_one_by_one(refusal: BaseException) -> None:
    one = claim()
    journal = await sent((one, says("a")), (one, says("b")), (one, says("c")))
    first, second, third = (answer for item in journal._waiting for _, answer in item.answers)
    journal._answer(journal._next_batch(), [refusal])
    assert not first.done() and not third.done()
    later = journal.send(one, says("later"))
    batches = [journal._next_batch() for _ in range(2)]
    assert [said_of(batch) for batch in batches] == [[["a"]], [["b"]]]
    journal._answer(batches[0], [refusal])
    journal._answer(batches[1], [Allocation(3, cancel_requested=False)])
    assert first.exception() is refusal and second.result().first_seq == 3
    assert [said_of(journal._next_batch()) for _ in range(2)] == [[["c"]], [["later"]]] and not later.done()
    assert journal._writing is not None
    journal._writing.cancel()


@pytest.mark.parametrize("refusal", [LeaseLost(), OperationalError()])
async def test_what_no_commit_of_the_run_can_help_is_told_to_all_of_them(refusal: BaseException) -> None:
    one = claim()
    journal = await sent((one, says("a")), (one, says("b")))
    answers = [answer for item in journal._waiting for _, answer in item.answers]
    journal._answer(journal._next_batch(), [refusal])
    assert [answer.exception() for answer in answers] == [refusal, refusal] and journal._next_batch() == []


async def test_what_was_tried_with_an_unknown_end_is_not_added_to() -> None:
    one = claim()
    journal = await sent((one, says("a")))
    journal._answer(journal._next_batch(), [RowHeld()])
    journal.send(one, says("b"))
    assert [said_of(journal._next_batch()) for _ in range(2)] == [[["a"]], [["b"]]]
    assert journal._writing is not None
    journal._writing.cancel()


async def test_a_request_that_met_a_held_row_comes_after_the_others_but_before_those_of_its_own_run() -> None:
    held, other = claim(), claim()
    journal = await sent((held, says("a")), (held, says("b")), (other, says("c")))
    first = journal._waiting[0]
    first.held = True
    batch = journal._next_batch()
    assert [item.request.row for item in batch] == [other, held] and batch[1] is first


async def test_a_claim_that_rests_on_its_threads_history_is_alone_of_its_thread_in_a_batch() -> None:
    thread = uuid4()
    resting, beside, elsewhere = claim(thread, thread_seq=3), claim(thread), claim()
    journal = await sent((resting, says(), True), (beside, says()), (elsewhere, says()))
    assert claims_of(journal) == [resting, elsewhere] and claims_of(journal) == [beside]
    journal = await sent((beside, says()), (resting, says(), True), (elsewhere, says()))
    assert claims_of(journal) == [beside, elsewhere] and claims_of(journal) == [resting]


async def test_a_journal_that_met_held_rows_only_waits_before_it_asks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "HELD_SECONDS", 3600)
    asked: list[int] = []

    async def held(commit: Any, requests: Any) -> list[Any]:
        asked.append(len(requests))
        return [RowHeld() for _ in requests]

    journal = Journal(held)
    journal.send(claim(), Commit())
    for _ in range(100):
        await asyncio.sleep(0)
    assert asked == [1] and journal._writing is not None
    journal._writing.cancel()
    await asyncio.wait([journal._writing])
