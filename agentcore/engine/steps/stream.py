"""A model's stream on its way into the log: deltas go out while it speaks, and silence or length break it off."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass

from ...conf import get_settings
from ...declaration.model import AgentModel, ModelEvent, ModelRequest
from ...exceptions import LimitReached, ModelError, RunError
from ...failpoints import afailpoint
from ...journal.commit import Allocation, Commit
from ...journal.lease import Lease
from ...providers.failures import failure_of
from ...values.logextra import log_extra
from .. import application
from .draft import Draft

logger = logging.getLogger("agentcore.engine")

AFTER_THE_END = 5.0
"""Seconds that a stream may stay open and silent after the model has said why it stops."""


@dataclass(frozen=True)
class Deadline:
    """How long a step may take, and what it means when it takes longer."""

    seconds: float
    reached: RunError


async def read_model(model: AgentModel, request: ModelRequest, draft: Draft, lease: Lease, deadline: Deadline) -> None:
    """Read a model's events into a draft and send its deltas when they are due; what is left at the end stays in it.

    Raises the `ModelError` of a model that fails, is silent too long or says what no
    model may, and the deadline's own error. Once the model has said why it stops, its
    answer is complete: what breaks after that takes nothing of it away.
    """
    outgoing = _Outgoing(draft, lease)
    try:
        await _read(model, request, draft, outgoing, deadline)
    except RunError as error:
        if not (draft.ended and isinstance(error, (ModelError, LimitReached))):
            raise
        about = log_extra("stream_broke", **draft.about)
        logger.warning("the model's stream broke after its answer was complete", exc_info=error, extra=about)
    finally:
        outgoing.stop()


async def _read(
    model: AgentModel, request: ModelRequest, draft: Draft, outgoing: _Outgoing, deadline: Deadline
) -> None:
    try:
        with _Patience(deadline) as patience:
            async with patience.limit, _said_by(model, request) as events:
                while (event := await application.next_of(events, None)) is not None:
                    patience.heard()
                    draft.add(event)
                    if draft.ended:
                        patience.expect_no_more()
                    outgoing.review()
                    await afailpoint("mid_stream")
        _check_broken_off()
    except RunError:
        _check_broken_off()
        raise
    except (Exception, asyncio.CancelledError) as error:
        _check_broken_off()  # otherwise the adapter was cancelled by its own library
        late = isinstance(error, TimeoutError) and patience.limit.expired()
        raise (patience.reason if late else _wrapped(error)) from error


def _check_broken_off() -> None:
    """Raise where this step is being broken off, whatever an adapter has made of that: nothing, or its own error."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


@contextlib.asynccontextmanager
async def _said_by(model: AgentModel, request: ModelRequest) -> AsyncIterator[AsyncIterator[ModelEvent]]:
    stream = await application.opened(model.stream, request)
    try:
        yield aiter(stream)
    finally:
        await application.close(stream)


def _wrapped(error: BaseException) -> ModelError:
    error = application.cause_of(error)
    failure = failure_of(error)
    level = logging.WARNING if failure.retryable else logging.ERROR
    logger.log(level, "the model adapter raised: %s", failure.run_code, exc_info=error)
    return failure


class _Patience:
    """Breaks a stream off when it is silent, or altogether, for too long; one timer, however many events there are."""

    def __init__(self, deadline: Deadline) -> None:
        self.limit = asyncio.timeout(deadline.seconds)
        self.reason: RunError = deadline.reached
        self._silence = get_settings().model_timeout
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> _Patience:
        self._timer = self._loop.call_later(self._silence, self._look)
        return self

    def __exit__(self, *raised: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def heard(self) -> None:
        """Note that the model has said something."""
        self._last = self._loop.time()

    def expect_no_more(self) -> None:
        """Wait no longer than a moment for what comes after the end: usage, or the end of the connection."""
        if self._silence > AFTER_THE_END:
            self._silence = AFTER_THE_END
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_later(self._silence, self._look)

    def _look(self) -> None:
        left = self._last + self._silence - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
            return
        self.reason = ModelError(f"The model was silent for {self._silence:g} seconds.", code="timeout")
        self.limit.reschedule(self._loop.time())


class _Outgoing:
    """Sends what a draft has said: one commit on its way at most, while the rest gathers behind it.

    What is due leaves when the model makes its reader wait: until then, more may go with it.
    """

    def __init__(self, draft: Draft, lease: Lease) -> None:
        self._draft = draft
        self._lease = lease
        self._loop = asyncio.get_running_loop()
        self._sent: asyncio.Future[Allocation] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._leaves: asyncio.Handle | None = None
        self._stopped = False

    def review(self) -> None:
        """Have sent what is due, or look again when it will be."""
        if self._sent is not None or self._leaves is not None or self._stopped:
            return
        seconds = self._draft.seconds_until_due()
        if seconds == 0.0:
            self._leaves = self._loop.call_soon(self._send)
        elif seconds is not None and self._timer is None:
            self._timer = self._loop.call_later(seconds, self._timed)

    def stop(self) -> None:
        """Send no more."""
        self._stopped = True
        for handle in (self._timer, self._leaves):
            if handle is not None:
                handle.cancel()

    def _timed(self) -> None:
        self._timer = None
        self.review()

    def _send(self) -> None:
        self._leaves = None
        self._sent = self._lease.send(Commit(events=self._draft.take()))
        self._sent.add_done_callback(self._arrived)

    def _arrived(self, answer: asyncio.Future[Allocation]) -> None:
        self._sent = None
        if answer.cancelled() or answer.exception() is not None:
            self._lease.failed(answer)
        else:
            self.review()
