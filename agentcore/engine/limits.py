"""When a run has used up what its agent may use: counted in the rows, so no worker's death resets it."""

from __future__ import annotations

from ..definition import Limits
from ..exceptions import LimitReached
from ..models import Step, ToolCall
from ..states import StepKind, StepStatus
from ..usage import Usage
from .runtime import Runtime
from .snapshot import NO_FAILURE, Snapshot


async def check(state: Snapshot, limits: Limits, runtime: Runtime) -> None:
    """Raise `LimitReached`, with the limit's own code, where the step that is due is one too many."""
    if limits.max_calls is not None or limits.max_repeats is not None:
        _check_calls(await runtime.read(_calls, state), limits, asks=not state.runnable)
    if state.runnable or state.blocked:
        return
    if state.steps_finished >= limits.max_steps:
        raise LimitReached(f"The run has taken its {limits.max_steps} steps.", code="limit_steps")
    if limits.max_seconds is not None and state.seconds_since_start >= limits.max_seconds:
        raise LimitReached(f"The run has taken its {limits.max_seconds:g} seconds.", code="limit_time")
    if limits.max_tokens is not None or limits.max_cost is not None:
        _check_usage(state.run.used + await runtime.read(_lost, state), limits)


def _check_calls(calls: list[tuple[str, str]], limits: Limits, *, asks: bool) -> None:
    """Check what was asked for; a model that has used it all up may not ask again, and what is too much is not run."""
    spare = 0 if asks else 1
    if limits.max_calls is not None and len(calls) >= limits.max_calls + spare:
        raise LimitReached(f"The run has asked for its {limits.max_calls} calls.", code="limit_calls")
    repeats = next((place for place, call in enumerate(reversed(calls)) if call != calls[-1]), len(calls))
    if limits.max_repeats is not None and repeats >= limits.max_repeats + spare:
        raise LimitReached(f"The run has asked for the same call {repeats} times in a row.", code="limit_repeats")


def _check_usage(used: Usage, limits: Limits) -> None:
    if limits.max_tokens is not None and used.total_tokens >= limits.max_tokens:
        raise LimitReached(f"The run has used its {limits.max_tokens} tokens.", code="limit_tokens")
    if limits.max_cost is not None and limits.price is not None and limits.price(used) >= limits.max_cost:
        raise LimitReached(f"The run has cost its {limits.max_cost:g}.", code="limit_cost")


def _calls(state: Snapshot) -> list[tuple[str, str]]:
    """Return all the calls of a run in order, also those that are about to be recorded."""
    rows = ToolCall.objects.filter(run=state.run).values_list("pk", "name", "arguments")
    calls = {pk: (name, arguments) for pk, name, arguments in rows}
    calls.update({call.pk: (call.name, call.arguments) for call in state.calls})
    return [calls[key] for key in sorted(calls)]


def _lost(state: Snapshot) -> Usage:
    """Return what the model calls that were lost with their workers count as: each as the largest one known."""
    steps = Step.objects.filter(run=state.run, kind=StepKind.MODEL)
    lost = steps.filter(status=StepStatus.FAILED, error_code__in=NO_FAILURE).count()
    if not lost:
        return Usage()
    finished = steps.filter(status=StepStatus.FINISHED).values_list("usage", flat=True)
    largest = max(map(Usage.from_json, finished), key=lambda usage: usage.total_tokens, default=Usage())
    return sum([largest] * lost, Usage())
