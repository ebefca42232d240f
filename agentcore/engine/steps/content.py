"""The content of an answer, in order: parts of a message, calls, and files that the application has yet to save."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...declaration.model import CallRequested, FileProduced, ReasoningDelta, ReasoningEnded, TextDelta, TextEnded
from ...values import jsontext
from ...values.parts import Part, ProviderDetails, ReasoningPart, SourcePart, TextPart

Item = Part | CallRequested | FileProduced
Spoken = type[TextPart] | type[ReasoningPart]
SPOKEN: Mapping[type[Any], Spoken] = {
    TextDelta: TextPart,
    TextEnded: TextPart,
    ReasoningDelta: ReasoningPart,
    ReasoningEnded: ReasoningPart,
}


@dataclass
class Content:
    """The items that are complete, and the text or reasoning that is still being said."""

    _items: list[Item] = field(default_factory=list)
    _speaks: Spoken | None = None
    _texts: list[str] = field(default_factory=list)
    # Sources stand behind the text that rests on them, which goes on after they are named.
    _sources: list[Part] = field(default_factory=list)
    _has_text: bool = False

    @property
    def items(self) -> list[Item]:
        """All of it, as it stands."""
        speaks = self._speaks
        spoken: list[Item] = [speaks("".join(self._texts))] if speaks is not None and self._texts else []
        return [*self._items, *spoken, *self._sources]

    @property
    def parts(self) -> list[Part]:
        """What of it a message keeps though the answer was broken off: no calls, and no files that nobody has saved."""
        return [item for item in self.items if not isinstance(item, CallRequested | FileProduced)]

    @property
    def says_something(self) -> bool:
        """Whether there is a text that somebody could read."""
        texts = (item.text for item in self.items if isinstance(item, TextPart))
        return any(jsontext.is_seen(char) and not char.isspace() for text in texts for char in text)

    def begins_text(self, kind: Spoken) -> bool:
        """Whether the next piece of text begins a part behind another one."""
        return kind is TextPart and self._has_text and not (self._speaks is TextPart and self._texts)

    def say(self, kind: Spoken, text: str) -> None:
        """Go on with the part that is being said, or begin one of another kind."""
        if kind is not self._speaks:
            self.end()
            self._speaks = kind
        self._texts.append(text)

    def end(self, kind: Spoken | None = None, details: ProviderDetails | None = None) -> None:
        """End the part that is being said; with a kind, one of it, which may be empty where it has details."""
        if kind is not None and kind is not self._speaks:
            self.end()
            self._speaks = kind
        text = "".join(self._texts)
        if self._speaks is not None and (text or details):
            self._items.append(self._speaks(text, provider_details=details))
            self._has_text = self._has_text or (self._speaks is TextPart and bool(text))
        self._items += self._sources
        self._speaks, self._texts, self._sources = None, [], []

    def add(self, item: Item) -> None:
        """Add an item of its own behind what has been said."""
        if isinstance(item, SourcePart):
            self._sources.append(item)
            return
        self.end()
        self._items.append(item)
