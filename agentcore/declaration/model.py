"""The one thing a model must do: turn a request into a stream of events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable
from uuid import UUID

from ..values.parts import Part, ProviderDetails, ReasoningPart, TextPart, details_of, with_details
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
    """One message of the history; `author` is user, agent, tool or system.

    What its parts and the message itself carry as `provider_details` came from the same origin as the model's.
    """

    author: str
    name: str
    parts: tuple[Part, ...]
    origin: str = ""
    provider_details: ProviderDetails | None = None

    def as_sent_to(self, origin: str) -> ModelMessage:
        """Return the message as a model of that origin may read it: without what another provider wants back."""
        return self if not self.origin or self.origin == origin else self.plain()

    def plain(self) -> ModelMessage:
        """Return the message without what any provider wants back, and without parts that had nothing else."""
        plain = (part if details_of(part) is None else with_details(part, None) for part in self.parts)
        said = tuple(part for part in plain if not isinstance(part, TextPart | ReasoningPart) or part.text)
        return replace(self, parts=said, origin="", provider_details=None)


@dataclass(frozen=True)
class ModelRequest:
    """Everything a model may know; `messages` ends with the prompt or the tool results to answer.

        `settings` is what the application sets for its model, in the model's own words. `files` are those of the
    <<<<<<< HEAD
        messages that the application has loaded, by their `ref`: their bytes, or an address to read them at.
        With `feedback`, the model's last answer was not taken: it says why. Of a structured output that
        is not valid it says what was sent, and what was said beside it ends the messages and stands where
        the repair says nothing; an answer that a guard did not let through is in none of the messages.
    =======
        messages that the application has loaded, by their `file_id`: their bytes, or an address to read them at.
        With `feedback`, the model's last answer was not taken: it says why. With `mends_output`, only the structured
        output is to be given again: the feedback says what was sent, and what was said beside it ends the messages and
        stands where the repair says nothing. Else it is the whole answer, which is in none of the messages.
    >>>>>>> 2306f79
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
    mends_output: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, bytes | str] = field(default_factory=dict)


@dataclass(frozen=True)
class TextDelta:
    """The next piece of the answer."""

    text: str


@dataclass(frozen=True)
class TextEnded:
    """The text part that was being said is complete, and may be empty; text that follows begins another part."""

    provider_details: ProviderDetails | None = None


@dataclass(frozen=True)
class ReasoningDelta:
    """The next piece of the thinking."""

    text: str


@dataclass(frozen=True)
class ReasoningEnded:
    """The reasoning that was being said is complete, and may be empty: its provider may keep all of it in details."""

    provider_details: ProviderDetails | None = None


@dataclass(frozen=True)
class SourceFound:
    """Something the answer rests on; without a title it goes by its address.

    `quote` is a passage of it; `start` and `end` are the characters that it supports of the text part being said.
    """

    title: str | None
    url: str | None = None
    document: str | None = None
    quote: str = ""
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True)
class FileProduced:
    """A file that the model made: its bytes, for the application to save, or an address that keeps them."""

    media_type: str
    data: bytes | None = None
    url: str = ""
    filename: str = ""
    provider_details: ProviderDetails | None = None


@dataclass(frozen=True)
class DataFound:
    """Anything else a page may want to show."""

    name: str
    value: Any


@dataclass(frozen=True)
class ProviderCalled:
    """A tool that the provider runs itself; it is shown, and never run here. The arguments are JSON data or text."""

    call_id: str
    name: str
    arguments: Any = None
    provider_details: ProviderDetails | None = None


@dataclass(frozen=True)
class ProviderReturned:
    """What came of a tool that the provider has run itself, as JSON data."""

    call_id: str
    name: str
    result: Any = None
    provider_details: ProviderDetails | None = None


@dataclass(frozen=True)
class CallRequested:
    """A complete request to run a tool; `arguments` are the provider's JSON text, or what it says as JSON types.

    Any other type in them ends the run: the model has sent no such thing, and could not mend it.
    """

    call_id: str
    name: str
    arguments: str | Mapping[str, Any]
    provider_details: ProviderDetails | None = None


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
    without a reason. `provider_details` is what the provider wants back with the answer as a whole.
    """

    reason: str | None
    provider_details: ProviderDetails | None = None


ModelEvent = (
    TextDelta
    | TextEnded
    | ReasoningDelta
    | ReasoningEnded
    | SourceFound
    | FileProduced
    | DataFound
    | CallRequested
    | ProviderCalled
    | ProviderReturned
    | UsageReported
    | OutputDelta
    | OutputProduced
    | StepFinished
)


@runtime_checkable
class AgentModel(Protocol):
    """A model. It raises `agentcore.exceptions.ModelError` for what its provider refuses.

    One that asks for details back (`provider_details`) has an `origin` too: see `origin_of`.
    """

    @property
    def name(self) -> str:
        """What the provider calls it."""

    @property
    def provider(self) -> str:
        """Whose it is."""

    def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        """Yield the events of one model call; closing the iterator closes the connection."""
        ...


def origin_of(model: AgentModel) -> str:
    """Return what a model's `provider_details` are tied to: its `origin`, or its provider where it has none.

    An origin names a provider, its address and the account asked with; details go back to the same one only.
    """
    return str(getattr(model, "origin", "") or model.provider)
