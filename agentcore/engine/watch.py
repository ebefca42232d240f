"""The worker's eye on its own claim: renews the lease, and notices a cancel or a take-over."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from types import TracebackType

from django.db import Error as DatabaseError

from ..conf import get_settings
from ..exceptions import CancelRequested
from . import journal
from .claim import Claim, peek
from .journal import Commit
from .runtime import Runtime

logger = logging.getLogger("agentcore.engine")


class Watch:
    """Runs beside the work of one claim, and cancels it (`reason` says why) when the claim says so."""

    def __init__(self, claim: Claim, runtime: Runtime) -> None:
        self.reason: BaseException | None = None
        self._claim = claim
        self._runtime = runtime
        self._work: asyncio.Task[object] | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Watch:
        self._work = asyncio.current_task()
        self._task = asyncio.create_task(self._look())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Stop looking; the work is not interrupted any more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _look(self) -> None:
        settings = get_settings()
        renewed = time.monotonic()
        while True:
            await asyncio.sleep(settings.cancel_poll_seconds)
            try:
                if time.monotonic() - renewed > settings.lease_seconds / 3:
                    await self._runtime.db(journal.commit, self._claim, Commit())
                    renewed = time.monotonic()
                if await self._runtime.db(peek, self._claim):
                    self._interrupt(CancelRequested())
                    return
            except DatabaseError:
                logger.warning(
                    "the database did not answer a heartbeat",
                    extra={"run_id": str(self._claim.run_id), "attempt": self._claim.attempt, "action": "heartbeat"},
                )
            except asyncio.CancelledError:
                raise
            except BaseException as error:
                # The lease is lost, or soon will be: without this eye the work must not go on.
                self._interrupt(error)
                return

    def _interrupt(self, reason: BaseException) -> None:
        self.reason = reason
        if self._work is not None:
            self._work.cancel()
