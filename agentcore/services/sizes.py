"""How large the things may be that people and applications send; a refusal says the size and the limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..conf import get_settings
from ..exceptions import Invalid, TooLarge
from ..values import jsontext, parts
from ..values.parts import Part

LONGEST_TITLE = 200
LONGEST_NAME = 150
LONGEST_REASON = 500


def message(content: Sequence[Part]) -> None:
    """Raise `TooLarge` for the content of a message beyond `MESSAGE_LIMIT` bytes."""
    size, limit = jsontext.size(parts.to_json(content)["parts"]), get_settings().message_limit
    if size > limit:
        raise TooLarge(f"The message takes {size} bytes; the limit is {limit}. Shorten it, or attach a file.")


def metadata(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return metadata as it is stored; raises `TooLarge`."""
    cleaned: dict[str, Any] = jsontext.clean(dict(given or {}))
    size, limit = jsontext.size(cleaned), get_settings().metadata_limit
    if size > limit:
        raise TooLarge(f"The metadata takes {size} bytes; the limit is {limit}. Keep large values elsewhere.")
    return cleaned


def result(given: Any) -> None:
    """Raise `TooLarge` for a result that a person gives a call, beyond the `RESULT_LIMIT` bytes of a tool's."""
    size, limit = jsontext.size(given), get_settings().result_limit
    if size > limit:
        raise TooLarge(f"The result takes {size} bytes; the limit is {limit}. Say what matters of it.")


def line(text: str, what: str, longest: int) -> str:
    """Return a title or a name as it is stored; raises `Invalid` where it is longer than its column."""
    cleaned = jsontext.clean_text(text)
    if len(cleaned) > longest:
        raise Invalid(f"The {what} has {len(cleaned)} characters; the limit is {longest}. Shorten it.")
    return cleaned
