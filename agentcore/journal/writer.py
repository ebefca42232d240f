"""The journal: one writer a process, which commits what all the runs it drives have to say together.

Requests gather while a batch is being committed and make up the next one, so an idle
process writes at once and a busy one writes much with few transactions. Nobody waits
in a batch for a row that somebody else holds: such a run is left for a later one.
A batch that fails is written again run by run, so that what is wrong with one entry
hurts that entry only.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from ..conf import get_settings
from ..database.outage import is_outage
from ..exceptions import CancelRequested, LeaseLost
from ..failpoints import failpoint
from ..streams.exceptions import StreamBusy
from . import claim as claims
from . import write
from .claim import Claim, Take
from .commit import Commit, NotClaimed
from .row import Allocation
from .write import Order

logger = logging.getLogger("agentcore.engine")

MOST_AT_ONCE = 200
HELD_SECONDS = 0.01
"""How long a run whose row somebody holds waits for the next batch."""
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0


class RowHeld(Exception):
    """Somebody holds a row that this entry needs; it is written in a later batch."""


@dataclass(eq=False)
class Request:
    """An entry on its way, and who waits for it; `given` is what it got in a COMMIT whose end nobody saw."""

    order: Order
    answer: asyncio.Future[Allocation]
    given: Allocation | None = None
    since: float = field(default_factory=time.monotonic)


Given = dict[UUID, Allocation]
Answer = Allocation | BaseException


class Journal:
    """Commits the entries of one event loop's runs; those of one run in the order they were given."""

    def __init__(self, run: Callable[..., Awaitable[Any]]) -> None:
        self._run = run
        self._waiting: deque[Request] = deque()
        self._writing: asyncio.Task[None] | None = None

    def send(self, claim: Claim, entry: Commit, take: Take | None = None) -> asyncio.Future[Allocation]:
        """Give an entry to commit under a worker's claim, or the claim itself together with its first entry.

        The answer raises `LeaseLost` or `CancelRequested` (see `claim.fence`), `NotClaimed`,
        and `Moved` where a row was not as the entry expects; nothing was written then.
        """
        answer: asyncio.Future[Allocation] = asyncio.get_running_loop().create_future()
        self._waiting.append(Request(Order(claim, entry, take), answer))
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
            given = {item.order.claim.run_id: item.given for item in batch if item.given is not None}
            try:
                outcomes: Sequence[Answer] = await self._run(commit_batch, [item.order for item in batch], given)
            except BaseException as error:  # noqa: BLE001 - whoever waits for it raises it
                outcomes = [error] * len(batch)
            if await self._answer(batch, outcomes, given):
                await asyncio.sleep(HELD_SECONDS)
            elif any(isinstance(outcome, BaseException) for outcome in outcomes):
                await asyncio.sleep(0)  # whoever was refused may take back what follows, before it is written

    def _next_batch(self) -> list[Request]:
        """Take the oldest requests, one a run: a second one of a run is written after the first.

        One that has its answer already was taken back.
        """
        batch: dict[UUID, Request] = {}
        later: list[Request] = []
        while self._waiting and len(batch) < MOST_AT_ONCE:
            request = self._waiting.popleft()
            if request.answer.done():
                continue
            if batch.setdefault(request.order.claim.run_id, request) is not request:
                later.append(request)
        self._waiting.extendleft(reversed(later))
        return list(batch.values())

    async def _answer(self, batch: Sequence[Request], outcomes: Sequence[Answer], given: Given) -> bool:
        """Tell everybody how it went; returns whether all there is to do now is to wait for rows somebody holds."""
        held = []
        for request, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, RowHeld) and time.monotonic() - request.since < get_settings().lease_seconds:
                request.given = given.get(request.order.claim.run_id)
                held.append(request)
            elif request.answer.done():
                continue
            elif isinstance(outcome, RowHeld):
                request.answer.set_exception(LeaseLost() if request.order.take is None else NotClaimed())
            elif isinstance(outcome, BaseException):
                request.answer.set_exception(outcome)
            else:
                request.answer.set_result(outcome)
        self._waiting.extendleft(reversed(held))
        return len(held) == len(self._waiting) > 0


def commit_batch(orders: Sequence[Order], given: Given | None = None) -> list[Answer]:
    """Commit entries of different runs together; returns for each what it was given, or why it was not written.

    `given` is what entries got in a COMMIT whose end nobody saw, before and after.
    """
    given = {} if given is None else given
    try:
        return _in_order(orders, _once(orders, given))
    except StreamBusy as error:
        free = [order for order in orders if order.claim.thread_stream_id not in error.stream_ids]
        found = {order.claim.run_id: answer for order, answer in zip(free, commit_batch(free, given), strict=True)}
        return [found.get(order.claim.run_id, RowHeld()) for order in orders]
    except Exception as error:
        if is_outage(error) and not connection.in_atomic_block:
            return _in_order(orders, _again(orders, given, error))
        return [commit_batch([order], given)[0] for order in orders] if len(orders) > 1 else [error]


def _in_order(orders: Sequence[Order], answers: Mapping[UUID, Answer]) -> list[Answer]:
    return [answers[order.claim.run_id] for order in orders]


def _once(orders: Sequence[Order], given: Given) -> dict[UUID, Answer]:
    """Look up what an unseen COMMIT has written after all, and commit the others in one transaction.

    They are written only onto the row that was read then: the lost COMMIT may still
    be on its way. `given` gets what the rows give now.
    """
    answers: dict[UUID, Answer] = {}
    if given:
        fresh = write.reread(orders, given)
        answers.update(fresh.written)
        orders = fresh.left
    # Durable: inside somebody's transaction "committed before the body runs" would be untrue.
    with transaction.atomic(durable=True):
        allocated = write.write(orders)
        given.update(allocated)
        left_out = [order for order in orders if order.claim.run_id not in allocated]
        answers.update(_why_not(left_out) if left_out else {})
        failpoint("before_commit")
    failpoint("after_commit")
    for order in orders:
        if not isinstance(answers.get(order.claim.run_id), RowHeld):
            given.pop(order.claim.run_id, None)  # how this one ended is known
    return {**answers, **allocated}


def _why_not(orders: Sequence[Order]) -> dict[UUID, Answer]:
    """Return why the rows of some entries did not take them."""
    claimed = [order.claim for order in orders]
    held = claims.held_by_others([claim.run_id for claim in claimed])
    # A row that was held when it was to be claimed may be free by now.
    takes = [order.take for order in orders if order.take is not None]
    held |= claims.claimable(takes) if takes else set()
    ours = claims.ours(claimed)
    answers: dict[UUID, Answer] = {}
    for order in orders:
        run_id = order.claim.run_id
        canceled = ours.get(run_id)
        if run_id in held:
            answers[run_id] = RowHeld()
        elif order.take is not None:
            answers[run_id] = NotClaimed()
        elif canceled is None:
            answers[run_id] = LeaseLost()
        else:
            answers[run_id] = CancelRequested() if canceled and order.entry.starts else RowHeld()
    return answers


def _again(orders: Sequence[Order], given: Given, error: Exception) -> dict[UUID, Answer]:
    """Write a batch again while the database is away, for as long as the leases may live."""
    logger.warning("the database did not answer (%s); trying again", error, extra={"action": "commit_again"})
    answers: dict[UUID, Answer] = {}
    deadline, pause = time.monotonic() + get_settings().lease_seconds, FIRST_PAUSE
    left = list(orders)
    while left and time.monotonic() < deadline:
        time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret
        pause = min(pause * 2, LONGEST_PAUSE)
        # From the third time on alone: one entry may be what the database cannot take.
        for turn in [[order] for order in left] if pause > FIRST_PAUSE * 4 else [left]:
            connection.close()
            try:
                answers.update(_one_turn(turn, given))
            except Exception as fault:
                if not is_outage(fault):
                    raise
                error = fault
        left = [order for order in left if order.claim.run_id not in answers]
    return {**{order.claim.run_id: error for order in left}, **answers}


def _one_turn(orders: Sequence[Order], given: Given) -> dict[UUID, Answer]:
    """Write once more; raises where the database is away again."""
    try:
        return _once(orders, given)
    except StreamBusy:
        return {order.claim.run_id: RowHeld() for order in orders}
    except Exception as error:
        if is_outage(error):
            raise
        if len(orders) == 1:
            return {orders[0].claim.run_id: error}
    answers: dict[UUID, Answer] = {}
    for order in orders:
        answers.update(_one_turn([order], given))
    return answers
