"""The heartbeat of a process: renews the claims of all its runs together, and notices a cancel or a take-over."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any
from uuid import UUID

from django.db import Error as DatabaseError

from ..conf import get_settings
from ..exceptions import CancelRequested, LeaseLost
from . import claim as claims
from .claim import Claim
from .commit import Commit
from .row import Allocation
from .writer import Journal

logger = logging.getLogger("agentcore.engine")


class Watch:
    """One claim under watch, from its first commit on: its work is cancelled (`reason` says why) when its row says so.

    `renewed` is when the lease was last known to be renewed, by this process's own
    clock: a worker that cannot write stops before anybody may take over. `sending`
    counts the commits under way, whose answers say more than a look beside them. `last`
    is what the last commit said (see `Allocation`).
    """

    def __init__(self, heartbeat: Heartbeat, claim: Claim) -> None:
        self.claim = claim
        self.reason: BaseException | None = None
        self.renewed = self.looked = time.monotonic()
        self.sending = 0
        self.last = False
        self._heartbeat = heartbeat
        self._work: asyncio.Task[object] | None = None
        self._left = False

    def __enter__(self) -> Watch:
        self._work = asyncio.current_task()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._left = True
        self._heartbeat.remove(self)

    def stop(self) -> None:
        """Interrupt the work no more; the lease is still renewed."""
        self._work = None

    def committed(self, since: float, allocation: Allocation) -> None:
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


class Heartbeat:
    """Looks at all watched claims every half second or so, and renews those not written to for a third of a lease."""

    def __init__(self, journal: Journal, read: Callable[..., Awaitable[Any]]) -> None:
        self._journal = journal
        self._read = read
        self._watches: dict[UUID, Watch] = {}
        self._task: asyncio.Task[None] | None = None
        self._renewals: dict[UUID, asyncio.Task[None]] = {}
        self._looking: asyncio.Task[None] | None = None

    def watch(self, claim: Claim) -> Watch:
        """Return a watch over the claim that the work inside its block is about to make."""
        return Watch(self, claim)

    def add(self, watch: Watch) -> None:
        """Begin to look after a claim."""
        self._watches[watch.claim.run_id] = watch
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._beat(), name="agentcore-heartbeat")

    def remove(self, watch: Watch) -> None:
        """Look after a claim no more."""
        if self._watches.get(watch.claim.run_id) is watch:
            del self._watches[watch.claim.run_id]

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
        while self._watches:
            settings = get_settings()
            await asyncio.sleep(settings.cancel_poll_seconds)
            now = time.monotonic()
            for watch in list(self._watches.values()):
                if now - watch.renewed > settings.lease_seconds:
                    watch.interrupt(LeaseLost())
                elif now - watch.renewed > settings.lease_seconds / 3:
                    self._renew(watch)
            stale = [item for item in self._watches.values() if now - item.looked > settings.cancel_poll_seconds / 2]
            if stale and (self._looking is None or self._looking.done()):
                self._looking = asyncio.create_task(self._look(stale), name="agentcore-look")

    def _renew(self, watch: Watch) -> None:
        # In tasks, so that the journal writes them all at once; one a run at a time.
        if watch.claim.run_id not in self._renewals:
            task = self._renewals[watch.claim.run_id] = asyncio.create_task(self._renew_one(watch))
            task.add_done_callback(lambda _: self._renewals.pop(watch.claim.run_id, None))

    async def _renew_one(self, watch: Watch) -> None:
        began = time.monotonic()
        try:
            watch.committed(began, await self._journal.send(watch.claim, Commit()))
        except asyncio.CancelledError:
            raise
        except DatabaseError:
            logger.warning("the database did not answer a heartbeat", extra=_about(watch.claim))
        except BaseException as error:  # noqa: BLE001 - whatever it is, without its lease the work must not go on
            watch.interrupt(error)

    async def _look(self, watches: list[Watch]) -> None:
        began = time.monotonic()
        try:
            ours = await self._read(claims.ours, [watch.claim for watch in watches])
        except DatabaseError:
            logger.warning("the database did not answer a look at cancels", extra={"action": "heartbeat"})
            return
        except Exception as error:
            # Without this eye the work must not go on: its lease may be lost, and nobody would notice.
            for watch in watches:
                watch.interrupt(error)
            return
        for watch in watches:
            cancel = ours.get(watch.claim.run_id)
            overtaken = watch.sending or watch.looked >= began
            if cancel is not False and not overtaken and self._watches.get(watch.claim.run_id) is watch:
                watch.interrupt(LeaseLost() if cancel is None else CancelRequested())


def _about(claim: Claim) -> dict[str, Any]:
    return {"run_id": str(claim.run_id), "attempt": claim.attempt, "action": "heartbeat"}
