"""Structured output: checked against the agent's model before anybody sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..definition import AgentDefinition
from ..exceptions import ModelRetry
from .threaded import contained


@dataclass(frozen=True)
class Verdict:
    """The output as plain data, or a fault that tells the model what to mend."""

    value: Any = None
    fault: str = ""


def check_output(definition: AgentDefinition, outputs: Sequence[object], *, has_calls: bool) -> Verdict:
    """Check what a step produced; only the final step, the one without calls, owes an output.

    Raises `NotKept` where the declared class reads another value than the one that was said.
    """
    output = definition.output
    if output is None or has_calls:
        return Verdict()
    if not outputs:
        return Verdict(fault=f"The answer needs a structured output of type {output.declared.__name__}; none came.")
    try:
        return Verdict(contained(lambda: output.record(outputs[-1])))
    except ModelRetry as error:
        return Verdict(fault=f"The structured output is not valid: {error.message}.")
