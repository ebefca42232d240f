"""A claim in a worker's hand: what its run has to say, renewed while the worker lives, interrupted when it is lost.

The end of one step and the beginning of the next are one transaction, and so are a
claim and its first step: what is staged goes with the next commit that cannot wait.
What has an effect outside the database, a model call or a tool's body, begins only
after `commit` has returned.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from operator import itemgetter
from types import TracebackType
from typing import Any
from uuid import UUID

from django.db import Error as DatabaseError

from ..conf import get_settings
from ..database.outage import is_outage
from ..exceptions import CancelRequested, LeaseLost
from ..failpoints import afailpoint
from ..values.logextra import log_extra
from . import fence
from .commit import Allocation, Claim, Commit, LogEnd, combined
from .writer import Journal

logger = logging.getLogger("agentcore.engine")


class Lease:
    """One claim from before it is made: stages and commits what its run has to say, while the work is inside its block.

    The rows that a commit moves are changed in memory once it is staged or, where it is not staged, written.
    The work is cancelled (`reason` says why) when the run's row says so. `renewed` is when the
    lease was last known to be renewed, by this process's own clock: a worker that cannot
    write stops before anybody may take over. `last` is what the last commit said (see `Allocation`).
    """

    def __init__(self, claim: Claim, journal: Journal, heartbeat: Heartbeat) -> None:
        self.claim = claim
        self.claimed = False
        self.reason: BaseException | None = None
        self.renewed = self.looked = time.monotonic()
        self.last = False
        self.end = LogEnd(claim.seen_seq)
        self._journal = journal
        self._heartbeat = heartbeat
        self._staged: list[tuple[int, Commit]] = []
        self._numbers = itertools.count()
        self._points: list[str] = []
        self._under_way: set[asyncio.Future[Allocation]] = set()
        self._lost: BaseException | None = None
        self._work: asyncio.Task[object] | None = None
        self._left = False

    def __enter__(self) -> Lease:
        self._work = asyncio.current_task()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_interrupting()
        self._left = True
        self._heartbeat.remove(self)

    @property
    def sending(self) -> bool:
        """Whether commits are under way, whose answers say more than a look beside them."""
        return bool(self._under_way)

    def stage(self, *commits: Commit, point: str = "") -> None:
        """Keep commits until the next one that cannot wait; a test may act at `point` once they are written."""
        self._staged += [(next(self._numbers), commit) for commit in commits]
        _apply(commits)
        self._points += [point] if point else []

    def forget(self) -> list[Commit]:
        """Drop what is staged, and return it."""
        return [commit for _, commit in self._unstage()]

    def _unstage(self) -> list[tuple[int, Commit]]:
        taken, self._staged = self._staged, []
        return taken

    async def commit(self, *commits: Commit) -> None:
        """Commit what is staged and then `commits`, together; where that fails, only what was staged is kept.

        Raises what `Journal.send` says. Where nothing is left to send, it waits for what is under way; a failure of
        that is raised to whoever sent it, and what was staged is staged again.
        """
        if not self.claimed and self._staged and any(commit.run for commit in commits):
            await self.commit()  # the statement that makes a claim sets the claim's own columns
        if self._staged or commits:
            points, self._points = self._points, []
            await asyncio.shield(self.send(*commits))
            for point in points:
                await afailpoint(point)
        elif self._under_way:
            await asyncio.wait(set(self._under_way))  # what the caller has staged may have gone with another commit

    def send(self, *commits: Commit) -> asyncio.Future[Allocation]:
        """Do what `commit` does without waiting; what is sent is written in the order of sending."""
        if self._lost is not None:
            refused: asyncio.Future[Allocation] = asyncio.get_running_loop().create_future()
            refused.set_exception(self._lost)
            return refused
        began, staged = time.monotonic(), self._unstage()
        said, claims = combined([*(commit for _, commit in staged), *commits]), not self.claimed
        answer = self._journal.send(self.claim, said, claims=claims, end=self.end)
        self._under_way.add(answer)

        def arrived(answer: asyncio.Future[Allocation]) -> None:
            self._under_way.discard(answer)
            if answer.cancelled() or answer.exception() is not None:
                self._staged = sorted(staged + self._staged, key=itemgetter(0))
                return
            _apply(commits)
            self.claimed = True
            self.renew(began, answer.result())

        answer.add_done_callback(arrived)
        return answer

    def failed(self, answer: asyncio.Future[Allocation]) -> None:
        """Break the work off: a commit that nobody waits for was not written, so nothing that follows it may be."""
        error = None if answer.cancelled() else answer.exception()
        if error is None:
            return
        for later in self._under_way:
            if not later.done():
                later.set_exception(error)
        if isinstance(error, LeaseLost) or is_outage(error):
            self._lost = error
        self.interrupt(error)

    async def settled(self) -> None:
        """Wait until everything sent so far was committed or refused."""
        while self._under_way:
            await asyncio.wait(set(self._under_way))

    def renew(self, since: float, allocation: Allocation) -> None:
        """Note that a commit sent at `since` renewed the lease, and what the row said of a cancel."""
        self.renewed = max(self.renewed, since)
        self.looked = time.monotonic()
        self.last = allocation.last
        if not self._left:  # a renewal may be answered when the work is over, and must not begin a life without it
            self._heartbeat.add(self)
        if allocation.cancel_requested:
            self.interrupt(CancelRequested())

    def interrupt(self, reason: BaseException) -> None:
        """Cancel the work, for the first reason there is."""
        if self.reason is None and self._work is not None:
            self.reason = reason
            self._work.cancel()

    def stop_interrupting(self) -> None:
        """Interrupt the work no more; the lease is still renewed."""
        self._work = None


class Heartbeat:
    """Looks at all leases every half second or so, and renews those of runs not written to for a third of a lease."""

    def __init__(self, journal: Journal, read: Callable[..., Awaitable[Any]]) -> None:
        self._journal = journal
        self._read = read
        self._leases: dict[UUID, Lease] = {}
        self._task: asyncio.Task[None] | None = None
        self._renewals: dict[UUID, asyncio.Task[None]] = {}
        self._looking: asyncio.Task[None] | None = None

    def lease(self, claim: Claim) -> Lease:
        """Return the lease of a claim that the work inside its block is about to make."""
        return Lease(claim, self._journal, self)

    def add(self, lease: Lease) -> None:
        """Begin to look after a lease."""
        self._leases[lease.claim.run_id] = lease
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._beat(), name="agentcore-heartbeat")

    def remove(self, lease: Lease) -> None:
        """Look after a lease no more."""
        if self._leases.get(lease.claim.run_id) is lease:
            del self._leases[lease.claim.run_id]

    async def stop(self) -> None:
        """Stop for good."""
        tasks = [task for task in (self._task, self._looking, *self._renewals.values()) if task is not None]
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _beat(self) -> None:
        # Nothing here waits for the database: a look or a renewal that hangs must not keep a lease from being given up.
        while self._leases:
            settings = get_settings()
            await asyncio.sleep(settings.cancel_poll_seconds)
            now = time.monotonic()
            for lease in list(self._leases.values()):
                if now - lease.renewed > settings.lease_seconds:
                    lease.interrupt(LeaseLost())
                elif now - lease.renewed > settings.lease_seconds / 3:
                    self._renew(lease)
            stale = [item for item in self._leases.values() if now - item.looked > settings.cancel_poll_seconds / 2]
            if stale and (self._looking is None or self._looking.done()):
                self._looking = asyncio.create_task(self._look(stale), name="agentcore-look")

    def _renew(self, lease: Lease) -> None:
        # In tasks, so that the journal writes them all at once; one a run at a time.
        if lease.claim.run_id not in self._renewals:
            task = self._renewals[lease.claim.run_id] = asyncio.create_task(self._renew_one(lease))
            task.add_done_callback(lambda _: self._renewals.pop(lease.claim.run_id, None))

    async def _renew_one(self, lease: Lease) -> None:
        began = time.monotonic()
        try:
            lease.renew(began, await self._journal.send(lease.claim, Commit(), end=lease.end))
        except asyncio.CancelledError:
            raise
        except DatabaseError:
            about = log_extra("heartbeat", lease.claim.run_id, lease.claim.attempt)
            logger.warning("the database did not answer a heartbeat", extra=about)
        except BaseException as error:  # noqa: BLE001 - whatever it is, without its lease the work must not go on
            lease.interrupt(error)

    async def _look(self, leases: list[Lease]) -> None:
        began = time.monotonic()
        try:
            ours = await self._read(fence.ours, [lease.claim for lease in leases])
        except DatabaseError:
            logger.warning("the database did not answer a look at cancels", extra=log_extra("heartbeat"))
            return
        except Exception as error:
            # Without this eye the work must not go on: its lease may be lost, and nobody would notice.
            for lease in leases:
                lease.interrupt(error)
            return
        for lease in leases:
            cancel = ours.get(lease.claim.run_id)
            overtaken = lease.sending or lease.looked >= began
            if cancel is not False and not overtaken and self._leases.get(lease.claim.run_id) is lease:
                lease.interrupt(LeaseLost() if cancel is None else CancelRequested())


def _apply(commits: Sequence[Commit]) -> None:
    for commit in commits:
        for move in commit.moves:
            move.apply()
