"""The one thing a model must do: turn a request into a stream of events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable
from uuid import UUID

from ..values.parts import Part
from ..values.usage import Usage
from .context import ContextBlock


@dataclass(frozen=True)
class ToolSpec:
    """A tool as a model is told about it; `parameters` is a JSON Schema."""

    name: str
    description: str
    parameters: dict[str, Any]


@dataclass(frozen=True)
class ModelMessage:
    """One message of the history; `author` is user, agent, tool or system."""

    author: str
    name: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class ModelRequest:
    """Everything a model may know; `messages` ends with the prompt or the tool results to answer.

    With `feedback`, the structured output of the model's last answer was refused: it says
    why, and what was sent. What was said beside it ends the messages, and stands where the
    repair says nothing.
    """

    run_id: UUID
    agent: str
    step: int
    attempt: int
    instructions: str
    context: tuple[ContextBlock, ...]
    messages: tuple[ModelMessage, ...]
    tools: tuple[ToolSpec, ...]
    output_schema: dict[str, Any] | None
    feedback: str = ""


@dataclass(frozen=True)
class TextDelta:
    """The next piece of the answer."""

    text: str


@dataclass(frozen=True)
class ReasoningDelta:
    """The next piece of the thinking."""

    text: str


@dataclass(frozen=True)
class SourceFound:
    """Something the answer rests on; without a title it goes by its address."""

    title: str | None
    url: str | None = None
    document: str | None = None


@dataclass(frozen=True)
class DataFound:
    """Anything else a page may want to show."""

    name: str
    value: Any


@dataclass(frozen=True)
class CallRequested:
    """A complete request to run a tool; `arguments` are the provider's JSON text, or what it says as JSON types.

    Any other type in them ends the run: the model has sent no such thing, and could not mend it.
    """

    call_id: str
    name: str
    arguments: str | Mapping[str, Any]


@dataclass(frozen=True)
class UsageReported:
    """What this call has used so far: of several reports, the last one counts.

    What a later report lacks (a count of 0) stays as an earlier one said. An adapter that
    asks its provider twice within one call reports the sum of both. What is no count (not
    an int, negative, beyond a billion) is left out, and the worker's log says so.
    """

    usage: Usage


@dataclass(frozen=True)
class OutputDelta:
    """The next piece of the structured output's JSON text."""

    text: str


@dataclass(frozen=True)
class OutputProduced:
    """The structured output, as plain data; the engine checks it."""

    value: Any


@dataclass(frozen=True)
class StepFinished:
    """Why the model stopped, as a `FinishReason` or in the provider's own word for one.

    It is a model's last word. What a provider says and nobody knows is kept as `other`; None is an end
    without a reason.
    """

    reason: str | None


ModelEvent = (
    TextDelta
    | ReasoningDelta
    | SourceFound
    | DataFound
    | CallRequested
    | UsageReported
    | OutputDelta
    | OutputProduced
    | StepFinished
)


@runtime_checkable
class AgentModel(Protocol):
    """A model. It raises `agentcore.exceptions.ModelError` for what its provider refuses."""

    @property
    def name(self) -> str:
        """What the provider calls it."""

    @property
    def provider(self) -> str:
        """Whose it is."""

    def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        """Yield the events of one model call; closing the iterator closes the connection."""
        ...
