"""Guards: functions of the application that may change or refuse what a model is asked, what it says, and what it does.

A guard that raises, is late or gives back something else ends the run: nothing is said or done that was not judged.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..exceptions import UserError
from ..values.functions import kind_of
from ..values.parts import Part, TextPart, ToolCallPart, text_of
from . import declared
from .context import RunContext
from .files import NewFile
from .model import DataFound, ModelRequest


@dataclass(frozen=True)
class Refuse:
    """Ends the run as failed, with a code of the application's; of an answer, nothing is kept.

    The message is for whoever sees the run, and says what can be done; the detail is for operators only.
    """

    code: str
    message: str
    detail: str = ""

    def __post_init__(self) -> None:
        """Raise `UserError` for what could not be told."""
        declared.code("Refuse: code", self.code)
        declared.said("Refuse: message", self.message)
        if not isinstance(self.detail, str):
            raise UserError(f"Refuse: detail is {declared.shown(self.detail)}: write text, or leave it out.")


@dataclass(frozen=True)
class Redact:
    """Puts a text in the place of all that an answer has said: its reasoning, sources, files and data go too.

    Its calls are not made either, unless `keep_calls` says so, and its structured output is what is given here.
    Where a call or an output is left, there need be no text.
    """

    text: str
    output: Any = None
    keep_calls: bool = False

    def __post_init__(self) -> None:
        """Raise `UserError` for what is no text, or where nothing is left."""
        if not isinstance(self.text, str):
            raise UserError(f"Redact: text is a {kind_of(self.text)}: write text.")
        if self.output is None and self.keep_calls is not True:
            declared.said("Redact: text", self.text)

    def after(self, before: Redact | None) -> Redact:
        """Return both as one: calls that the one before has dropped do not come back."""
        if before is None or before.keep_calls or not self.keep_calls:
            return self
        return Redact(self.text or before.text, self.output)


@dataclass(frozen=True)
class AskAgain:
    """Drops an answer and asks the model for another one; it reads the feedback, nobody else does but operators."""

    feedback: str

    def __post_init__(self) -> None:
        """Raise `UserError` where there is nothing to read."""
        declared.said("AskAgain: feedback", self.feedback)


@dataclass(frozen=True)
class Deny:
    """Does not run a call; the model reads the reason as its result, and pages and operators see the code too."""

    reason: str
    code: str = "denied"

    def __post_init__(self) -> None:
        """Raise `UserError` for what could not be told."""
        declared.said("Deny: reason", self.reason)
        declared.code("Deny: code", self.code)


@dataclass(frozen=True)
class Ask:
    """Has a person decide whether a call runs; they are shown the reason."""

    reason: str

    def __post_init__(self) -> None:
        """Raise `UserError` where there is nothing to show."""
        declared.said("Ask: reason", self.reason)


@dataclass(frozen=True)
class Answer:
    """What a model has answered in one step, before anybody sees it.

    The parts stand in the order in which they were said, calls among them with the arguments that the model sent.
    `output` is the structured output as it would be kept, or as it was sent where it is not valid. `data` is what
    the model shows beside its message, `files` those that it made and that are yet to be saved.
    """

    parts: tuple[Part, ...]
    output: Any = None
    data: tuple[DataFound, ...] = ()
    files: tuple[NewFile, ...] = ()

    @property
    def text(self) -> str:
        """Its text parts, one paragraph each."""
        return text_of(self.parts)

    @property
    def calls(self) -> tuple[ToolCallPart, ...]:
        """What it asks for."""
        return tuple(part for part in self.parts if isinstance(part, ToolCallPart))

    def redacted(self, verdict: Redact) -> Answer:
        """Return what is left of it."""
        said = [TextPart(verdict.text)] if verdict.text else []
        return Answer((*said, *(self.calls if verdict.keep_calls else ())), verdict.output)


@dataclass(frozen=True)
class ProposedCall:
    """A call that a model asks for, with the arguments that would run, and whether a person has approved them."""

    call_id: str
    name: str
    arguments: Mapping[str, Any]
    effect: str
    approved: bool = False


OfRequest = ModelRequest | Refuse | None
OfAnswer = Redact | AskAgain | Refuse | None
OfCall = Deny | Ask | None


@dataclass(frozen=True, kw_only=True)
class Guard:
    """Functions that judge a run at three places; each may be left out, be sync or async, and says None to agree.

    `before_model(request, about)` judges each model call, and may return the `ModelRequest` to send in its place.
    `after_answer(answer, about)` judges each answer before anybody sees it. `before_tool(call, about)` judges each
    call when it is recorded, and again right before it runs.
    """

    before_model: Callable[[ModelRequest, RunContext], OfRequest | Awaitable[OfRequest]] | None = None
    after_answer: Callable[[Answer, RunContext], OfAnswer | Awaitable[OfAnswer]] | None = None
    before_tool: Callable[[ProposedCall, RunContext], OfCall | Awaitable[OfCall]] | None = None

    def __post_init__(self) -> None:
        """Raise `UserError` for what cannot be called so."""
        for name, judged in (("before_model", "request"), ("after_answer", "answer"), ("before_tool", "call")):
            function = getattr(self, name)
            if function is not None:
                declared.function(f"Guard: {name}", function, f"{judged}, about")
