"""When a run has used up what its agent may use: counted in the rows, so no worker's death resets it."""

from __future__ import annotations

from dataclasses import replace

from ..declaration.agent import Limits
from ..exceptions import LimitReached
from ..models import Run
from ..values.usage import Usage
from . import application, snapshot
from .application import TRY_AGAIN, Hook
from .runtime import Runtime
from .snapshot import Asked, Snapshot

NOT_KNOWN = f"What the run has cost could not be found out. {TRY_AGAIN}"
PRICE = Hook("The price of its limits", code="price_failed", message=NOT_KNOWN)


async def check(state: Snapshot, limits: Limits, runtime: Runtime) -> Snapshot:
    """Raise `LimitReached`, with the limit's own code, where what is due would be one too many.

    It is asked before a model call, before calls run and before a person is asked about one:
    a call whose result no model may read any more is not run. Returns the snapshot, with what had to be read.
    """
    if limits.max_calls is not None or limits.max_repeats is not None:
        known = state.asked if state.asked is not None else await runtime.read(snapshot.calls_asked, state.run)
        state = replace(state, asked=known)
        _check_calls(known, limits)
    if state.model_calls >= limits.max_steps:
        raise LimitReached(f"The run has made its {_times(limits.max_steps, 'model call')}.", code="limit_steps")
    if limits.max_seconds is not None and state.seconds_running >= limits.max_seconds:
        raise out_of_time(limits.max_seconds)
    if limits.max_tokens is not None or limits.max_cost is not None:
        await _check_usage(state.run, state.run.used + _lost(state), limits, runtime)
    return state


def out_of_time(seconds: float) -> LimitReached:
    """Return the end of a run that has been running for as long as it may."""
    return LimitReached(f"The run has been running for its {_times(seconds, 'second')}.", code="limit_time")


def _check_calls(known: Asked, limits: Limits) -> None:
    """Check what was asked for; where one call is too many, none of its step's is run."""
    if limits.max_calls is not None and known.count > limits.max_calls:
        message = f"The run may make {_times(limits.max_calls, 'call')} and has asked for {known.count}."
        raise LimitReached(message, code="limit_calls")
    if limits.max_repeats is not None and known.repeats > limits.max_repeats:
        message = f"The run may ask for the same call {_times(limits.max_repeats, 'time')} in a row, and has once more."
        raise LimitReached(message, code="limit_repeats")


async def _check_usage(run: Run, used: Usage, limits: Limits, runtime: Runtime) -> None:
    if limits.max_tokens is not None and used.total_tokens >= limits.max_tokens:
        raise LimitReached(f"The run has used its {_times(limits.max_tokens, 'token')}.", code="limit_tokens")
    if limits.max_cost is None or limits.price is None:
        return
    cost = await application.ask(PRICE, run, runtime, limits.price, used, read=float)
    if not cost < limits.max_cost:  # not the other way round: what is not a number must not let the run go on
        raise LimitReached(f"The run has cost its {limits.max_cost:g}.", code="limit_cost")


def _lost(state: Snapshot) -> Usage:
    """Return what the model calls that were lost with their workers count as: each as the largest one known."""
    return sum([state.largest] * state.lost_calls, Usage())


def _times(number: float, what: str) -> str:
    shown = number if isinstance(number, int) else f"{number:g}"
    return f"{shown} {what}{'' if number == 1 else 's'}"
