"""Structured output: checked against the agent's model before anybody sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...conf import get_settings
from ...declaration.agent import AgentDefinition
from ...exceptions import ModelRetry
from ...models import Step
from ...values import bounded, jsontext, parts
from ...values.parts import Part
from ..runtime import Runtime
from .checking import checked
from .draft import Draft

CUT_OFF = "The answer reached its length limit before the structured output was complete. Send it again, shorter."
LONGEST_SHOWN = 4000  # characters of a refused output that its repair is shown


@dataclass(frozen=True)
class Verdict:
    """The output as plain data, or a fault that tells the model what to mend."""

    value: Any = None
    fault: str = ""


async def check_output(definition: AgentDefinition, draft: Draft, runtime: Runtime, *, has_calls: bool) -> Verdict:
    """Check what a step produced; only the final step, the one without calls, owes an output.

    Raises `NotKept` where the declared class reads another value than the one that was said.
    """
    output = definition.conversion
    if output is None or has_calls:
        return Verdict()
    if draft.outputs:
        try:
            return Verdict(await checked(runtime, output, lambda: output.record(draft.outputs[-1])))
        except ModelRetry as error:
            fault = f"The structured output is not valid: {error.message}."
    else:
        fault = f"The answer needs a structured output of type {output.declared.__name__}; none came."
    return Verdict(fault=fault if draft.end.complete else CUT_OFF)


def rejected(content: Sequence[Part], outputs: Sequence[object]) -> dict[str, Any]:
    """Return what a step keeps of an answer that was not taken, for its repair and for operators."""
    kept = {"output": bounded.cut(outputs[-1], get_settings().result_limit)} if outputs else {}
    return {**parts.to_json(content), **kept}


def carried_on(last: Step | None, draft: Draft) -> list[Part]:
    """Return what an answer says; one that only mends the output of the last step says what that one said."""
    if draft.says_something:
        return draft.parts
    return [*refused_text(last), *draft.parts]


def refused_text(last: Step | None) -> tuple[Part, ...]:
    """Return what the last step said beside an output that was refused; nothing where none was."""
    if last is None or not last.rejected:
        return ()
    return parts.from_json(last.rejected)


def feedback(last: Step | None) -> str:
    """Return what was wrong with the output of the last step, and what it was, for the model."""
    if last is None or not last.rejected:
        return ""
    if "output" not in last.rejected:
        return last.error_message
    sent = jsontext.shorten(jsontext.canonical(last.rejected["output"]), LONGEST_SHOWN)
    return f"{last.error_message} This was sent: {sent}"
