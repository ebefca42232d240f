"""How a model's answer may end, and what becomes of it and of its run then: one table.

The reason stands on the step, and on the message and the run that the answer ends with.
What breaks off without an end is a `ModelError`, and is asked again.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from . import jsontext

__all__ = ["ENDS", "LONGEST_DETAIL", "End", "FinishReason", "WithCalls", "reason_of"]

LONGEST_DETAIL = 100


class FinishReason(StrEnum):
    """Why a model stopped; `other` is what its provider says and agentcore has no word for."""

    STOP = "stop"
    TOOL_CALLS = "tool_calls"
    LENGTH = "length"
    CONTENT_FILTER = "content_filter"
    REFUSAL = "refusal"
    OTHER = "other"


class WithCalls(StrEnum):
    """What becomes of the calls in an answer: they run, the model is told that they did not, or they are left out."""

    RUN = "run"
    ANSWER = "answer"
    LEAVE_OUT = "leave_out"


@dataclass(frozen=True)
class End:
    """What follows from an end: `fails` is the code with which the run fails, and `complete` whether all was said."""

    calls: WithCalls = WithCalls.RUN
    fails: str = ""
    complete: bool = True


ENDS: dict[FinishReason, End] = {
    FinishReason.STOP: End(),
    FinishReason.TOOL_CALLS: End(),
    # A text that was cut off is an answer, and says so; a call or an output that was cut off is none.
    FinishReason.LENGTH: End(calls=WithCalls.ANSWER, complete=False),
    FinishReason.CONTENT_FILTER: End(calls=WithCalls.LEAVE_OUT, fails="content_filter", complete=False),
    FinishReason.REFUSAL: End(calls=WithCalls.LEAVE_OUT, fails="refused"),
    FinishReason.OTHER: End(),
}

_SPELLINGS: dict[str, FinishReason] = {
    **{reason.value: reason for reason in FinishReason},
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "tool_use": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "max_tokens": FinishReason.LENGTH,
    "max_output_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "safety": FinishReason.CONTENT_FILTER,
    "recitation": FinishReason.CONTENT_FILTER,
    "blocklist": FinishReason.CONTENT_FILTER,
    "prohibited_content": FinishReason.CONTENT_FILTER,
}
"""What the common providers call them; case and hyphens do not matter."""


def reason_of(said: str) -> tuple[FinishReason, str]:
    """Return agentcore's word for what a provider says, and where there is none also what it said, shortened."""
    known = _SPELLINGS.get(said.strip().lower().replace("-", "_"))
    if known is not None:
        return known, ""
    return FinishReason.OTHER, jsontext.clean_text(said)[:LONGEST_DETAIL]
