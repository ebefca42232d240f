"""An event of a model as a draft takes it in: adapters are written by others, so each field's type is checked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ...declaration.model import (
    CallRequested,
    DataFound,
    ModelEvent,
    OutputDelta,
    OutputProduced,
    ReasoningDelta,
    SourceFound,
    StepFinished,
    TextDelta,
)
from ...exceptions import ModelError
from ...values import jsontext
from ...values.functions import kind_of

_TEXTS: dict[type[Any], tuple[str, ...]] = {
    TextDelta: ("text",),
    ReasoningDelta: ("text",),
    OutputDelta: ("text",),
    DataFound: ("name",),
    CallRequested: ("name",),
}
_TEXTS_OR_NONE: dict[type[Any], tuple[str, ...]] = {SourceFound: ("title", "url", "document")}


def checked(event: ModelEvent) -> ModelEvent:
    """Return the event with fields of their types; raises `ModelError` for one that is of another type.

    An end whose reason is no text is one without a reason. Usage and data may be anything here: their readers
    check them. Arguments and outputs may be any JSON, and the model has to mend what is wrong with that.
    """
    match event:
        case StepFinished(reason) if not isinstance(reason, str):
            event = replace(event, reason=None)
        case CallRequested():
            event = replace(event, arguments=_json(event, "arguments", event.arguments))
        case OutputProduced():
            event = replace(event, value=_json(event, "value", event.value))
    kind = type(event)
    for field in _TEXTS.get(kind, ()):
        _check(event, field, getattr(event, field))
    for field in _TEXTS_OR_NONE.get(kind, ()):
        if getattr(event, field) is not None:
            _check(event, field, getattr(event, field))
    return event


def _json(event: ModelEvent, field: str, value: object) -> Any:
    try:
        return jsontext.plain(value)
    except TypeError as error:
        said = f"The model sent {kind_of(event)} with {error} in its {field}, which JSON does not have."
        raise ModelError(f"{said} Have its adapter give what the provider sent.", retryable=False) from error


def _check(event: ModelEvent, field: str, value: object) -> None:
    if not isinstance(value, str):
        said = f"The model sent {kind_of(event)} with a {field} of type {kind_of(value)}, which is no text."
        raise ModelError(said, retryable=False)
