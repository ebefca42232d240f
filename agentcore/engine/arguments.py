"""What a model sent as a call's arguments, and what is kept of it: a bounded JSON object, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import jsontext

TOO_LONG = "The arguments take {size} bytes, of at most {limit}. The call was not run: send it again, shorter."
SHOWN_OF_TOO_LONG = 2000
SPELLED = 6
"""As often as what is stored, text may be as long as JSON that is not read yet: it may spell a character in six."""


def kept(sent: Any, limit: int) -> tuple[dict[str, Any], str]:
    """Return the arguments as they are stored, at most `limit` bytes of JSON; and a fault for the model, or ""."""
    if isinstance(sent, str):
        if len(sent) > limit * SPELLED:
            return _beginning(sent), TOO_LONG.format(size=jsontext.size(sent), limit=limit)
        try:
            found = jsontext.parse(sent or "{}")
        except ValueError:
            return _beginning(sent), "The arguments are not valid JSON. Send them again."
    else:
        found = sent
    is_object = isinstance(found, Mapping)
    stored = jsontext.clean(dict(found) if is_object else {"value": found})
    size = jsontext.size(stored)
    if size > limit:
        text = sent if isinstance(sent, str) else jsontext.encode(sent).decode()
        return _beginning(text), TOO_LONG.format(size=size, limit=limit)
    return stored, "" if is_object else "The arguments must be a JSON object."


def _beginning(text: str) -> dict[str, Any]:
    return {"text": jsontext.shorten(jsontext.clean_text(text[: SHOWN_OF_TOO_LONG + 1]), SHOWN_OF_TOO_LONG)}
