"""Which requests of a journal go into the next batch, and when it waits before it sends another."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest

from agentcore.journal import writer
from agentcore.journal.commit import Claim, Commit, RowHeld
from agentcore.journal.writer import Journal

pytestmark = pytest.mark.once


def claim(thread: UUID | None = None, *, thread_seq: int | None = None) -> Claim:
    return Claim(uuid4(), thread or uuid4(), uuid4(), uuid4(), 1, "test", attempt=1, thread_seq=thread_seq)


async def never(*args: Any) -> Any:
    await asyncio.Event().wait()


async def sent(*requests: tuple[Claim, bool]) -> Journal:
    """A journal with requests that wait, none of them under way."""
    journal = Journal(never)
    for one, claims in requests:
        journal.send(one, Commit(), claims=claims)
    assert journal._writing is not None
    journal._writing.cancel()
    await asyncio.wait([journal._writing])
    return journal


def claims_of(journal: Journal) -> list[Claim]:
    return [item.request.row for item in journal._next_batch() if isinstance(item.request.row, Claim)]


async def test_one_request_of_a_run_is_in_a_batch_and_the_next_one_in_the_next() -> None:
    one, other = claim(), claim()
    journal = await sent((one, False), (one, False), (other, False))
    assert claims_of(journal) == [one, other] and claims_of(journal) == [one] and claims_of(journal) == []


async def test_a_request_that_met_a_held_row_comes_after_the_others_but_before_those_of_its_own_run() -> None:
    held, other = claim(), claim()
    journal = await sent((held, False), (held, False), (other, False))
    first = journal._waiting[0]
    first.held = True
    batch = journal._next_batch()
    assert [item.request.row for item in batch] == [other, held] and batch[1] is first


async def test_a_claim_that_rests_on_its_threads_history_is_alone_of_its_thread_in_a_batch() -> None:
    thread = uuid4()
    resting, beside, elsewhere = claim(thread, thread_seq=3), claim(thread), claim()
    journal = await sent((resting, True), (beside, False), (elsewhere, False))
    assert claims_of(journal) == [resting, elsewhere] and claims_of(journal) == [beside]
    journal = await sent((beside, False), (resting, True), (elsewhere, False))
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
