"""Structured output: checked against the agent's model before anybody sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from .. import jsontext
from ..definition import AgentDefinition


@dataclass(frozen=True)
class Verdict:
    """The output as plain data, or a fault that tells the model what to mend."""

    value: Any = None
    fault: str = ""


def check_output(definition: AgentDefinition, outputs: Sequence[object], *, has_calls: bool) -> Verdict:
    """Check what a step produced; only the final step, the one without calls, owes an output."""
    if definition.output is None or has_calls:
        return Verdict()
    if not outputs:
        return Verdict(fault=f"The answer needs a structured output of type {definition.output.__name__}; none came.")
    try:
        cleaned = jsontext.clean(outputs[-1])
        return Verdict(jsontext.clean(definition.output.model_validate(cleaned).model_dump(mode="json")))
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()[:5])
        return Verdict(fault=f"The structured output is not valid: {faults}.")
