"""What an application hands to the model's input, and what it is told when it does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from ..exceptions import UserError
from ..values import jsontext
from . import declared


@dataclass(frozen=True)
class ContextBlock:
    """Text for the model's input, under a name an auditor will recognise."""

    name: str
    text: str
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise `UserError` for a block that cannot be shown to a model."""
        if not isinstance(self.name, str) or not self.name.strip():
            raise UserError(f"ContextBlock: name is {declared.shown(self.name)}: write text that says what it is.")
        if not isinstance(self.text, str):
            raise UserError(f"ContextBlock {self.name}: text is {declared.shown(self.text)}: write text.")
        if not isinstance(self.metadata, Mapping):
            raise UserError(f"ContextBlock {self.name}: metadata is {declared.shown(self.metadata)}: write a dict.")

    def to_json(self) -> dict[str, Any]:
        """Return the stored form, cleaned for every store."""
        stored: dict[str, Any] = jsontext.clean({"name": self.name, "text": self.text, "metadata": dict(self.metadata)})
        return stored

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ContextBlock:
        """Read the stored form."""
        return cls(data["name"], data["text"], dict(data.get("metadata", {})))


@dataclass(frozen=True)
class RunContext:
    """What a function of the application knows of the run that it is asked about.

    Loaders, instructions, guards and files get one, and so does what chooses models, tools and settings.
    """

    run_id: UUID
    thread_id: UUID
    agent: str
    user: Any
    """For whom the run works: an instance of the project's user model, or None."""
    prompt: str
    """The text of the message that the run answers; "" where it has none."""
    metadata: Mapping[str, Any]
    """What the run was started with."""
    step: int = 1
    """The number of the step that is due."""
    attempt: int = 1


ContextLoader = Callable[[RunContext], Iterable[ContextBlock] | Awaitable[Iterable[ContextBlock]]]
Instructions = str | Callable[[RunContext], str | Awaitable[str]]
