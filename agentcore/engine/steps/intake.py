"""What a model sends, checked where it comes in: an event's types, a call's arguments, values of a declared type."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from ...conf import get_settings
from ...declaration.conversion import VALIDATORS
from ...declaration.model import (
    CallRequested,
    DataFound,
    FileProduced,
    ModelEvent,
    OutputDelta,
    OutputProduced,
    ProviderCalled,
    ProviderReturned,
    ReasoningDelta,
    SourceFound,
    StepFinished,
    TextDelta,
)
from ...declaration.signature import Arguments
from ...exceptions import ModelError, NotKept
from ...values import jsontext
from ...values.functions import kind_of
from ...values.logextra import log_extra
from ...values.parts import is_web_address
from .. import application
from ..runtime import Runtime
from ..threads import BrokeOff, contained

logger = logging.getLogger("agentcore.engine")

T = TypeVar("T")

TOO_LONG = "The arguments take {size} bytes, of at most {limit}. The call was not run: send it again, shorter."
NOT_READ = "The arguments cannot be read as JSON: {why}. The call was not run: send it again."
NOT_KEPT = "The arguments cannot be kept as they are: they have {what}. The call was not run: send it again without."
SHOWN_OF_TOO_LONG = 2000
LONGEST_REASON = 200
SPELLED = 6
"""As often as what is stored, text may be as long as JSON that is not read yet: it may spell a character in six."""

_TEXTS: dict[type[Any], tuple[str, ...]] = {
    TextDelta: ("text",),
    ReasoningDelta: ("text",),
    OutputDelta: ("text",),
    DataFound: ("name",),
    CallRequested: ("name",),
    ProviderCalled: ("call_id", "name"),
    ProviderReturned: ("call_id", "name"),
    FileProduced: ("media_type", "url", "filename"),
    SourceFound: ("title", "url", "document", "quote"),
}
_MAY_BE_NONE = {"title", "url", "document"}


def typed(event: ModelEvent, about: Mapping[str, Any]) -> ModelEvent:
    """Return the event with fields of their types; raises `ModelError` for one that is of another type.

    An end whose reason is no text is one without a reason. Usage and data may be anything here: their readers
    check them. Arguments and outputs may be any JSON, and the model has to mend what is wrong with that. What a
    provider wants back and the database cannot keep as it is is left out, and the log says so.
    """
    if getattr(event, "provider_details", None) is not None:
        event = _with_details(event, about)
    match event:
        case StepFinished(reason) if not isinstance(reason, str):
            event = replace(event, reason=None)
        case CallRequested():
            event = replace(event, arguments=_json(event, "arguments", event.arguments))
        case OutputProduced():
            event = replace(event, value=_json(event, "value", event.value))
        case SourceFound(start=start, end=end) if not _is_place(start, end):
            event = replace(event, start=None, end=None)
        case FileProduced():
            event = _file(event)
        case ProviderCalled():
            event = replace(event, arguments=_json(event, "arguments", event.arguments))
        case ProviderReturned():
            event = replace(event, result=_json(event, "result", event.result))
    kind = type(event)
    for field in _TEXTS.get(kind, ()):
        value = getattr(event, field)
        may_be_none = kind is SourceFound and field in _MAY_BE_NONE
        if not isinstance(value, str) and not (value is None and may_be_none):
            said = f"The model sent {kind_of(event)} with a {field} of type {kind_of(value)}, which is no text."
            raise ModelError(said, retryable=False)
    return event


def _file(event: FileProduced) -> FileProduced:
    """Return the event with its bytes as bytes; raises `ModelError` where it has none and no address of the web."""
    if isinstance(event.data, bytearray | memoryview):
        event = replace(event, data=bytes(event.data))
    has_data, has_url = isinstance(event.data, bytes), isinstance(event.url, str) and is_web_address(event.url)
    if has_data == has_url or (event.data is not None and not has_data) or (event.url and not has_url):
        said = "The model sent a file that is neither bytes nor at one address that begins with https:// or http://."
        raise ModelError(f"{said} Have its adapter give one of them.", retryable=False)
    return event


def _is_place(start: Any, end: Any) -> bool:
    """Whether they are characters of a text, from one to another."""
    are_numbers = all(isinstance(place, int) and not isinstance(place, bool) for place in (start, end))
    return are_numbers and 0 <= start < end


def _with_details(event: Any, about: Mapping[str, Any]) -> Any:
    """Return the event with its details as JSON data, or without them where they would not be stored as they are."""
    try:
        details = jsontext.plain(event.provider_details)
        unkept = jsontext.unkept(details) if isinstance(details, dict) else f"a {kind_of(details)} instead of a dict"
    except TypeError as error:
        details, unkept = None, str(error)
    if unkept:
        extra = log_extra("details_not_kept", **about)
        logger.warning("what the provider wants back is left out of %s: it has %s", kind_of(event), unkept, extra=extra)
    return replace(event, provider_details=None if unkept else details or None)


def _json(event: ModelEvent, field: str, value: object) -> Any:
    try:
        return jsontext.plain(value)
    except TypeError as error:
        said = f"The model sent {kind_of(event)} with {error} in its {field}, which JSON does not have."
        raise ModelError(f"{said} Have its adapter give what the provider sent.", retryable=False) from error


def arguments(sent: Any, limit: int) -> tuple[dict[str, Any], str]:
    """Return the arguments as they are stored, at most `limit` bytes of JSON; and a fault for the model, or "".

    What could only be stored as something else has a fault: a tool is given what the model sent, or is not run.
    What is sent is JSON text, or of JSON types: an adapter's event of anything else is refused before; see `typed`.
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
            return _beginning(sent), NOT_READ.format(why=why)
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


async def checked(runtime: Runtime, conversion: Arguments, function: Callable[[], T]) -> T:
    """Return what `function` makes of values with a conversion, and raise what it raises.

    Validators may block: then it is called in a thread, and has the time of a tool. Raises `NotKept`
    where it takes longer, or ends with what no loop can carry.
    """
    seconds = get_settings().tool_timeout
    limit = asyncio.timeout(seconds)
    try:
        if not conversion.runs_code:
            return contained(function)
        async with limit:
            return await runtime.threads.run(function)
    except BrokeOff as error:
        kind = kind_of(application.cause_of(error))
        raise NotKept(f"{conversion.what}: its validators failed with {kind}. {VALIDATORS}") from error
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise NotKept(f"{conversion.what}: its validators did not end within {seconds:g} seconds.") from error
