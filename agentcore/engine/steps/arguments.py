"""What a model sent as a call's arguments, and what is kept of it: a bounded JSON object, and what is wrong with it."""

from __future__ import annotations

from typing import Any

from ...values import jsontext

TOO_LONG = "The arguments take {size} bytes, of at most {limit}. The call was not run: send it again, shorter."
NOT_KEPT = "The arguments cannot be kept as they are: they have {what}. The call was not run: send it again without."
SHOWN_OF_TOO_LONG = 2000
LONGEST_REASON = 200
SPELLED = 6
"""As often as what is stored, text may be as long as JSON that is not read yet: it may spell a character in six."""


def kept(sent: Any, limit: int) -> tuple[dict[str, Any], str]:
    """Return the arguments as they are stored, at most `limit` bytes of JSON; and a fault for the model, or "".

    What could only be stored as something else has a fault: a tool is given what the model sent, or is not run.
    What is sent is JSON text, or of JSON types: an adapter's event of anything else is refused before; see `intake`.
    Nothing, in any of the ways that providers say it, is an object without arguments.
    """
    found = sent
    if isinstance(sent, str):
        if len(sent) > limit * SPELLED:
            return _beginning(sent), TOO_LONG.format(size=jsontext.size(sent), limit=limit)
        try:
            found = jsontext.parse(sent) if sent.strip() else {}
        except ValueError as error:
            why = jsontext.shorten(jsontext.clean_text(str(error)), LONGEST_REASON)
            return _beginning(
                sent
            ), f"The arguments cannot be read as JSON: {why}. The call was not run: send it again."
    if found is None:
        found = {}
    is_object = isinstance(found, dict)
    exact = found if is_object else {"value": found}
    stored = jsontext.clean(exact)
    size = jsontext.size(stored)
    if size > limit:
        text = sent if isinstance(sent, str) else jsontext.encode(sent).decode()
        return _beginning(text), TOO_LONG.format(size=size, limit=limit)
    if not is_object:
        return stored, "The arguments must be a JSON object."
    unkept = jsontext.unkept(exact)
    return stored, NOT_KEPT.format(what=unkept) if unkept else ""


def _beginning(text: str) -> dict[str, Any]:
    return {"text": jsontext.shorten(jsontext.clean_text(text[: SHOWN_OF_TOO_LONG + 1]), SHOWN_OF_TOO_LONG)}
