"""The journal: one writer a process, which commits what all the runs it drives have to say together.

Requests gather while a batch is being committed and make up the next one, so an idle
process writes at once and a busy one writes much with few transactions. What one run has
ready is one request; where that is refused, each commit is written by itself. Nobody waits
in a batch for a row that somebody else holds: such a run is left for a later one.
A batch that fails is written again run by run, so that what is wrong with one commit
hurts that commit only.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from django.db import DatabaseError, connection, transaction

from ..conf import get_settings
from ..database.outage import is_outage, is_refusal
from ..exceptions import CancelRequested, InsideTransaction, LeaseLost
from ..failpoints import failpoint
from ..values.logextra import log_extra
from . import unknown, write
from .commit import Allocation, Claim, Commit, LogEnd, NotClaimed, Request, RowHeld
from .write import Answer

logger = logging.getLogger("agentcore.engine")

MOST_AT_ONCE = 200
"""How many runs are written to in one batch."""
MOST_TOGETHER = 100
"""How many commits of a run are one request."""
HELD_SECONDS = 0.01
"""How long a run whose row somebody holds waits for the next batch."""
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0


@dataclass(eq=False)
class Sent:
    """Commits of one run on their way as one request, and who waits for the answer to each of them."""

    request: Request
    answers: list[tuple[Commit, asyncio.Future[Allocation]]]
    since: float = field(default_factory=time.monotonic)
    held: bool = False
    """Whether it has met a row that somebody holds."""
    alone: bool = False
    """Whether it was refused together with others of its run, and is now written by itself."""

    @property
    def answered(self) -> bool:
        """Whether nobody waits for it any more: it was taken back."""
        return all(answer.done() for _, answer in self.answers)

    def takes(self, later: Sent) -> bool:
        """Whether what the run has said next can be one transaction with this."""
        if self.held or self.alone or later.alone or len(self.answers) == MOST_TOGETHER:
            return False
        if self.request.claims or later.request.claims or self.request.row != later.request.row:
            return False  # a claim is written by itself, and what another claim says rests on another attempt
        moved = {move.row.pk for move in self.request.commit.moves}
        return moved.isdisjoint(move.row.pk for move in later.request.commit.moves)

    def add(self, later: Sent) -> None:
        """Make one request of this and what the run has said next."""
        self.request = replace(self.request, commit=self.request.commit.and_then(later.request.commit))
        self.answers += later.answers

    def parted(self) -> list[Sent]:
        """Return a request for each commit, to be written by itself."""
        return [
            Sent(replace(self.request, commit=commit), [(commit, answer)], self.since, alone=True)
            for commit, answer in self.answers
        ]

    def accept(self, given: Allocation) -> None:
        """Tell everybody what their commits were given."""
        seq = given.first_seq
        for commit, answer in self.answers:
            if not answer.done():
                answer.set_result(replace(given, first_seq=seq))
            seq += len(commit.events)
        self.request.end.seq = seq

    def refuse(self, error: BaseException) -> None:
        """Tell everybody that nothing was written."""
        for _, answer in self.answers:
            if not answer.done():
                answer.set_exception(error)


class Journal:
    """Writes the commits of one event loop's runs; those of one run in the order they were given."""

    def __init__(self, run: Callable[..., Awaitable[Any]]) -> None:
        self._run = run
        self._waiting: deque[Sent] = deque()
        self._writing: asyncio.Task[None] | None = None

    def send(
        self, claim: Claim, commit: Commit, *, claims: bool = False, end: LogEnd | None = None
    ) -> asyncio.Future[Allocation]:
        """Send a commit to be written under a worker's claim, or with `claims`, together with the claim itself.

        The answer raises `LeaseLost` or `CancelRequested` (see `fence`), `NotClaimed`,
        and `Moved` where a row was not as the commit expects; nothing was written then.
        """
        answer: asyncio.Future[Allocation] = asyncio.get_running_loop().create_future()
        request = Request(claim, commit, claims, LogEnd(claim.seen_seq) if end is None else end)
        self._waiting.append(Sent(request, [(commit, answer)]))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_all(), name="agentcore-journal")
        return answer

    async def settled(self) -> None:
        """Wait until everything given so far is committed or refused."""
        while self._writing is not None and not self._writing.done():
            await asyncio.wait([self._writing])

    async def _write_all(self) -> None:
        while self._waiting:
            batch = self._next_batch()
            if not batch:
                return
            try:
                outcomes: Sequence[Answer] = await self._run(commit_batch, [item.request for item in batch])
            except BaseException as error:  # noqa: BLE001 - whoever waits for it raises it
                outcomes = [error] * len(batch)
            if self._answer(batch, outcomes):
                await asyncio.sleep(HELD_SECONDS)
            elif any(isinstance(outcome, BaseException) for outcome in outcomes):
                await asyncio.sleep(0)  # whoever was refused may take back what follows, before it is written

    def _next_batch(self) -> list[Sent]:
        """Choose what the runs have to say, of each what can be one request; runs that met a held row come last.

        A claim that rests on its thread's history is in no batch with another request of that thread, which
        may add to it. A request that has its answer already was taken back.
        """
        runs: dict[UUID, deque[Sent]] = {}
        for sent in self._waiting:
            if not sent.answered:
                runs.setdefault(sent.request.row.run_id, deque()).append(sent)
        batch: dict[UUID, Sent] = {}
        rests: dict[UUID, bool] = {}
        for run_id, said in sorted(runs.items(), key=lambda item: item[1][0].held):
            thread, alone = said[0].request.row.thread_id, said[0].request.rests_on_history
            if len(batch) < MOST_AT_ONCE and (thread not in rests or not (alone or rests[thread])):
                rests[thread] = alone
                batch[run_id] = said.popleft()
                while said and batch[run_id].takes(said[0]):
                    batch[run_id].add(said.popleft())
        # Whose turn it was not comes first the next time.
        left = sorted(runs.items(), key=lambda item: item[0] in batch)
        self._waiting = deque(sent for _, said in left for sent in said)
        return list(batch.values())

    def _answer(self, batch: Sequence[Sent], outcomes: Sequence[Answer]) -> bool:
        """Tell everybody how it went; returns whether all of it has met rows that somebody holds."""
        again: list[Sent] = []
        for sent, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, RowHeld) and time.monotonic() - sent.since < get_settings().lease_seconds:
                sent.held = True
                again.append(sent)
            elif isinstance(outcome, RowHeld):
                sent.refuse(NotClaimed() if sent.request.claims else LeaseLost())
            elif isinstance(outcome, Allocation):
                sent.accept(outcome)
            elif len(sent.answers) > 1 and _concerns_one(outcome):
                again += sent.parted()
            else:
                sent.refuse(outcome)
        self._waiting.extendleft(reversed(again))
        return all(isinstance(outcome, RowHeld) for outcome in outcomes) and bool(again)


def _concerns_one(outcome: BaseException) -> bool:
    """Whether it proves that nothing was written, for what one of the commits says: the others may be written."""
    if isinstance(outcome, DatabaseError):
        return is_refusal(outcome) and not is_outage(outcome)
    return isinstance(outcome, (Exception, CancelRequested))


def commit_batch(requests: Sequence[Request]) -> list[Answer]:
    """Commit what different runs have to say together; returns for each what it was given, or why it was not written.

    A fault splits the batch, so that it hurts only whose it is; an outage is waited for as long as leases may live.
    """
    answers: dict[UUID, Answer] = {}
    left, pause, gives_up_at = [list(requests)], FIRST_PAUSE, 0.0
    while left:
        again: list[list[Request]] = []
        outage: Exception | None = None
        for batch in left:
            try:
                answers.update(_transaction(batch))
            except Exception as error:
                if is_outage(error) and not connection.in_atomic_block:
                    connection.close()
                    again.append(batch)
                    outage = error
                    for item in batch:
                        item.unknown = True
                elif len(batch) > 1:
                    again += [[item] for item in batch]
                else:
                    answers[batch[0].row.run_id] = error
        if outage is not None:
            gives_up_at = gives_up_at or time.monotonic() + get_settings().lease_seconds
            if time.monotonic() > gives_up_at:
                answers.update((item.row.run_id, outage) for batch in again for item in batch)
                break
            logger.warning("the database did not answer (%s); trying again", outage, extra=log_extra("commit_again"))
            time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret
            pause = min(pause * 2, LONGEST_PAUSE)
            if pause > FIRST_PAUSE * 4:  # one commit may be what the database cannot take
                again = [[item] for batch in again for item in batch]
        left = [batch for batch in again if batch]
    return [answers[item.row.run_id] for item in requests]


def _transaction(requests: Sequence[Request]) -> dict[UUID, Answer]:
    """Look up what an unseen COMMIT has written after all, and commit the others in one transaction."""
    answers: dict[UUID, Answer] = dict(unknown.found_written(requests))
    left = [item for item in requests if item.row.run_id not in answers]
    if not left:
        return answers
    if connection.vendor == "postgresql" and connection.get_autocommit():
        failpoint("before_commit")
        answers |= write.write(left)  # a statement is a transaction by itself
    else:
        with _durable():
            answers |= write.write(left)
            failpoint("before_commit")
    failpoint("after_commit")
    for item in left:
        if not isinstance(answers[item.row.run_id], RowHeld):
            item.unknown, item.seen_seq = False, None
    return answers


@contextmanager
def _durable() -> Iterator[None]:
    """Open a transaction; inside somebody's, where "committed before the body runs" were untrue, raise instead."""
    try:
        with transaction.atomic(durable=True):
            yield
    except RuntimeError as error:
        # Django has no class of its own for a durable transaction inside another one.
        if "durable" not in str(error):
            raise
        raise InsideTransaction from error
