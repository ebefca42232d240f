"""What a lease has staged: taken by the next commit, and staged again, in its order, where that is refused."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from django.db import IntegrityError

from agentcore.journal.commit import Allocation, Claim, Commit
from agentcore.journal.lease import Heartbeat, Lease
from agentcore.journal.writer import Journal
from agentcore.values.events import TextDelta

pytestmark = pytest.mark.once


class Held:
    """A journal that writes nothing until it is told how each commit has gone."""

    def __init__(self) -> None:
        self.sent: list[tuple[list[str], asyncio.Future[Allocation]]] = []

    def send(self, claim: Claim, commit: Commit, **more: Any) -> asyncio.Future[Allocation]:
        answer: asyncio.Future[Allocation] = asyncio.get_running_loop().create_future()
        self.sent.append((said(commit), answer))
        return answer


def said(*commits: Commit) -> list[str]:
    return [event.text for commit in commits for event in commit.events if isinstance(event, TextDelta)]


def says(text: str) -> Commit:
    return Commit([TextDelta(1, text)])


async def never(*args: Any) -> Any:
    await asyncio.Event().wait()


@pytest.fixture
def journal() -> Held:
    return Held()


@pytest.fixture
def lease(journal: Any) -> Lease:
    claim = Claim(uuid4(), uuid4(), uuid4(), uuid4(), 1, "test", attempt=1)
    made = Lease(claim, journal, Heartbeat(Journal(never), never))
    made.claimed, made._left = True, True
    return made


async def test_what_is_on_its_way_is_not_sent_again(lease: Lease, journal: Held) -> None:
    lease.stage(says("a"))
    lease.send()
    lease.stage(says("b"))
    lease.send(says("c"))
    assert [texts for texts, _ in journal.sent] == [["a"], ["b", "c"]]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_what_was_refused_is_staged_again_in_its_order(
    lease: Lease, journal: Held, order: tuple[int, ...]
) -> None:
    for text in ("a", "b"):
        lease.stage(says(text))
        lease.send(says("not staged"))
    lease.stage(says("c"))
    for number in order:
        journal.sent[number][1].set_exception(IntegrityError())
    await lease.settled()
    assert said(*lease.forget()) == ["a", "b", "c"]


async def test_a_commit_ends_when_what_went_with_anothers_commit_is_written(lease: Lease, journal: Held) -> None:
    lease.stage(says("mine"))
    lease.send(says("of another"))
    waiting = asyncio.create_task(lease.commit())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    journal.sent[0][1].set_result(Allocation(0, cancel_requested=False))
    await asyncio.wait_for(waiting, 5)
    assert lease.forget() == []
