"""A tool's body while it runs: its context, its timeout, its retries, and what its end means."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from .. import events, jsontext
from ..conf import get_settings
from ..exceptions import ModelRetry, ToolFailed
from ..ids import uuid7
from ..models import Run, ToolCall
from ..states import ToolCallStatus
from ..tools import EffectKind, Tool
from .journal import Commit
from .runtime import Runtime
from .takeover import UNVERIFIED

logger = logging.getLogger("agentcore.engine")


@dataclass(frozen=True)
class Outcome:
    """How a call ended: succeeded, failed or effect_unverified."""

    status: ToolCallStatus
    result: Any = None
    error: str = ""


class RunningCall:
    """The `ToolContext` of one call, and its execution."""

    def __init__(
        self, run: Run, call: ToolCall, tool: Tool, runtime: Runtime, commit: Callable[[Commit], Awaitable[None]]
    ) -> None:
        self.run_id = run.pk
        self.thread_id = run.thread_id
        self.user = run.user
        self.call_id = call.call_id
        self.idempotency_key = str(call.pk)
        self.attempt = call.attempt
        self._call = call
        self._tool = tool
        self._runtime = runtime
        self._commit = commit
        self._loop = asyncio.get_running_loop()
        self._stopped = threading.Event()
        self._progress: list[asyncio.Task[None]] = []

    @property
    def cancelled(self) -> bool:
        """Whether the run is being ended; a long tool looks now and then, and stops."""
        return self._stopped.is_set()

    def progress(self, value: Any) -> None:
        """Show `value` (JSON data) to whoever watches the run; may be called from any thread."""
        self._loop.call_soon_threadsafe(self._show, jsontext.clean(value))

    async def execute(self) -> Outcome:
        """Run the body, again if its effect allows and its `retries` say so; never raises for what a tool does."""
        arguments = self._call.arguments_json
        if self._call.tries > 1 and self._tool.check is not None:
            checked = await self._look_whether_it_happened(self._tool.check, arguments)
            if checked is not None:
                return checked
        outcome = await self._attempt(arguments)
        for _ in range(self._tool.retries):
            if outcome.status is ToolCallStatus.SUCCEEDED:
                break
            outcome = await self._attempt(arguments)
        await asyncio.gather(*self._progress)
        return outcome

    async def _look_whether_it_happened(self, check: Callable[..., Any], arguments: dict[str, Any]) -> Outcome | None:
        """Return the outcome of an earlier attempt, or None where there was none; a check that fails tells nothing."""
        try:
            async with asyncio.timeout(self._limit):
                happened = await self._invoke(lambda: check(arguments, self), inspect.iscoroutinefunction(check))
                return None if happened is None else self._succeeded(happened)
        except Exception as error:
            logger.exception(
                "the check of tool %s failed",
                self._call.name,
                extra={"run_id": str(self.run_id), "attempt": self.attempt, "action": "check_failed"},
            )
            return self._unknown(f"Whether it took effect could not be checked ({type(error).__name__}).")

    @property
    def _limit(self) -> float:
        return self._tool.timeout if self._tool.timeout is not None else get_settings().tool_timeout

    async def _attempt(self, arguments: dict[str, Any]) -> Outcome:
        limit = self._limit
        try:
            async with asyncio.timeout(limit):
                return self._succeeded(await self._invoke(self._tool.bind(arguments, self), self._tool.is_async))
        except TimeoutError:
            self._stopped.set()
            return self._unknown(f"The tool did not end within {limit:g} seconds.")
        except asyncio.CancelledError:
            self._stopped.set()
            raise
        except (ToolFailed, ModelRetry) as error:
            return Outcome(ToolCallStatus.FAILED, error=jsontext.shorten(error.message, 2000))
        except Exception as error:
            reference = uuid7().hex[-8:]
            logger.exception(
                "tool %s raised; reference %s",
                self._call.name,
                reference,
                extra={"run_id": str(self.run_id), "attempt": self.attempt, "action": "tool_raised"},
            )
            return Outcome(
                ToolCallStatus.FAILED, error=f"The tool failed with {type(error).__name__} (reference {reference})."
            )

    async def _invoke(self, function: Callable[[], Any], is_async: bool) -> Any:
        """Call the app's code: awaited if it is async, in a thread of the application's if it is not."""
        if is_async:
            value = function()
            return await value if inspect.isawaitable(value) else value
        return await self._runtime.app(function)

    def _succeeded(self, value: Any) -> Outcome:
        text = jsontext.canonical(value)
        limit = get_settings().result_limit
        if len(text) <= limit:
            return Outcome(ToolCallStatus.SUCCEEDED, jsontext.clean(value))
        return Outcome(ToolCallStatus.SUCCEEDED, jsontext.shorten(text, limit))

    def _unknown(self, error: str) -> Outcome:
        """A body that was not seen to end may have had its effect, unless it has none."""
        if self._tool.effect is EffectKind.PURE:
            return Outcome(ToolCallStatus.FAILED, error=error)
        return Outcome(ToolCallStatus.EFFECT_UNVERIFIED, error=f"{error} {UNVERIFIED}")

    def _show(self, value: Any) -> None:
        if self.cancelled:
            return  # the call has its outcome; a thread that could not be stopped says no more
        entry = Commit(events=[events.ToolProgress(self.call_id, value)])
        self._progress.append(self._loop.create_task(self._commit(entry)))  # type: ignore[arg-type]
