"""Between a model's JSON and typed Python values: the one place where either becomes the other.

Stored = shown = digested = approved = given. `record` turns what a model sent into the JSON data
to store, and proves that reading it back gives the same values and the same data again; `given`
reads what was stored. Nothing else validates arguments or an output.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticUndefined

from ..exceptions import ModelRetry, NotKept, UserError
from ..values import jsontext
from ..values.functions import kind_of
from .roundtrip import difference, in_order, merged, runs_code, unkept_fields

MOST = 5
LONGEST_PLACE = 100
LONGEST_FAULT = 300
LONGEST_ADVICE = 2000


@dataclass(frozen=True)
class Conversion:
    """A declared type, as JSON for a model and as values for Python; `what` names it in sentences: "Tool pay".

    Where it `runs_code`, functions of the application's may have a part in that, which may block.
    """

    what: str
    declared: type[Any]
    adapter: TypeAdapter[Any]
    schema: Mapping[str, Any]
    digest: str
    runs_code: bool

    @classmethod
    def to(cls, declared: type[Any], what: str) -> Conversion:
        """Return the conversion to a type; raises `UserError` for one that JSON cannot carry there and back."""
        try:
            adapter: TypeAdapter[Any] = TypeAdapter(declared)
            unkept = [*unkept_fields(adapter.core_schema)]
            schema = adapter.json_schema()
        except Exception as error:  # whatever pydantic, or a type of the application's, makes of the declaration
            raise UserError(f"{what}: what it is declared with has no JSON Schema. {error}") from error
        if unkept:
            raise UserError(f"{what}: {unkept[0]}")
        if _any_holds(schema, "writeOnly"):
            raise UserError(
                f"{what}: a secret (SecretStr, SecretBytes) is shown as asterisks, and what is shown is what is given. "
                "Let the function fetch the secret itself, or declare a str that may be stored and shown."
            )
        schema = _with_ordered_defaults(schema)
        digest = jsontext.digest(jsontext.canonical(schema))
        return cls(what, declared, adapter, schema, digest, runs_code(adapter.core_schema))

    def with_descriptions(self, texts: Mapping[str, str]) -> Conversion:
        """Return the same with descriptions of its properties, where they have none; they are no part of its digest."""
        read = dict(self.schema.get("properties", {}))
        names = (field.name for field in dataclasses.fields(self.declared))
        for name, shown in zip(names, read, strict=True):  # a schema keeps the order of its fields
            if name in texts and "description" not in read[shown]:
                read[shown] = {**read[shown], "description": texts[name]}
        return dataclasses.replace(self, schema={**self.schema, "properties": read})

    def record(self, raw: Any) -> Any:
        """Return the JSON data to store of what a model sent: by alias, defaults included.

        Raises `ModelRetry` where the model has to send something else, `NotKept` where the
        values would not be the same when they are read back.
        """
        if unkept := jsontext.unkept(raw):
            raise ModelRetry(f"It cannot be kept as it is: it has {unkept}. Send it without")
        first = self._read(jsontext.canonical(raw))
        stored = self._dump(first)
        if place := merged(raw, first, stored):
            raise ModelRetry(f"{jsontext.shorten(place, LONGEST_PLACE)}: two of its keys are read as one. Send it once")
        text = jsontext.canonical(stored)
        try:
            second = self._read(text)
            again = self._dump(second)
        except ModelRetry as error:
            raise NotKept(f"{self.what}: what was recorded is not accepted again. {error.message} {ADVICE}") from error
        changed = difference(first, second) or (jsontext.canonical(again) != text and "a value")
        if changed:
            raise NotKept(f"{self.what}: {changed} is another one when it is stored and read again. {ADVICE}")
        return stored

    def given(self, stored: Any) -> Any:
        """Return the typed values of what was recorded; raises `NotKept` where the declaration reads it otherwise now.

        A model's defaults and a validator may have changed since: then what was shown is not what would be given.
        """
        text = jsontext.canonical(stored)
        try:
            kept = jsontext.canonical(self._dump(self._read(text))) == text
        except ModelRetry as error:
            raise NotKept(f"{self.what}: what was recorded is not accepted any more. {error.message}") from error
        if not kept:
            raise NotKept(f"{self.what}: what was recorded is read otherwise now.")
        return self._read(text)  # anew: writing an iterable has used it up

    def dump(self, values: Any) -> Any:
        """Return typed values as the JSON data that `given` reads."""
        return self._dump(values)

    def _read(self, text: str) -> Any:
        try:
            return self.adapter.validate_json(text)
        except ValidationError as error:
            raise ModelRetry(_faults(error)) from error
        except ModelRetry as error:  # of a validator of the application's, which speaks to the model
            raise ModelRetry(jsontext.shorten(error.message, LONGEST_ADVICE)) from error
        except Exception as error:
            raise NotKept(f"{self.what}: its validators failed with {kind_of(error)}. {VALIDATORS}") from error

    def _dump(self, values: Any) -> Any:
        try:
            dumped = self.adapter.dump_python(values, mode="json", by_alias=True, round_trip=True, warnings=False)
        except ValidationError as error:  # of an iterable, which is checked when it is used
            raise ModelRetry(_faults(error)) from error
        except Exception as error:
            raise NotKept(f"{self.what}: its serializers failed with {kind_of(error)}. {ADVICE}") from error
        if _has_no_number(dumped):
            raise ModelRetry("Input should be a finite number.")
        return jsontext.clean(in_order(values, dumped))


ADVICE = "Declare a type that reads what it writes (pydantic: validate(dump(value)) == value), and convert in the body."
VALIDATORS = "Have them raise ValueError for what they refuse."


def arguments(name: str, fields: Mapping[str, tuple[Any, Any]], what: str) -> Conversion:
    """Return the conversion to a function's arguments: an object with a field for each parameter.

    `fields` has the annotation and the default of each, `...` where there is none. Not a
    pydantic model, but a dataclass: it has no attributes of its own that a parameter could
    be in the way of. Raises `UserError`, also for a default that its own annotation refuses.
    """
    optional = {field: declared for field, declared in fields.items() if _has_static_default(declared[1])}
    for field, declared in optional.items():
        try:
            Conversion.to(_record_of(name, {field: declared}), what).record({})
        except ModelRetry as error:
            raise UserError(f"{what}: the default of {field} does not fit its annotation. {error.message}.") from error
    made = Conversion.to(_record_of(name, fields), what)
    shown = made.schema.get("properties", {})
    if len(shown) < len(fields):
        raise UserError(f"{what}: two of its parameters have one alias. A model sees only {', '.join(shown)}.")
    return made


def _record_of(name: str, fields: Mapping[str, tuple[Any, Any]]) -> type[Any]:
    declared = [(field, annotation, _field(default)) for field, (annotation, default) in fields.items()]
    # JSON has no NaN, so no tool is called with one.
    config = ConfigDict(extra="forbid", allow_inf_nan=False, validate_default=True)
    made: type[Any] = dataclasses.make_dataclass(
        name, declared, init=False, repr=False, eq=False, kw_only=True, namespace={"__pydantic_config__": config}
    )
    return made


def _field(default: Any) -> Any:
    if default is ...:
        default = Field()  # not left out: pydantic keeps the order of fields that all have one
    return dataclasses.field(default=default if isinstance(default, FieldInfo) else Field(default=default))


def _has_static_default(default: Any) -> bool:
    """Whether there is a default that costs nothing to look at: a factory may ask the database."""
    if isinstance(default, FieldInfo):
        return default.default is not PydanticUndefined and default.default is not ...
    return default is not ...


def _faults(error: ValidationError) -> str:
    return "; ".join(map(_fault, error.errors(include_url=False, include_context=False, include_input=False)[:MOST]))


def _fault(error: ErrorDetails) -> str:
    # Both may hold what the model sent: a key, or a value in the words of a validator.
    where = jsontext.shorten(".".join(map(str, error["loc"])), LONGEST_PLACE)
    extra = error["type"] == "unexpected_keyword_argument"  # pydantic's words are for somebody who calls a function
    message = "Extra inputs are not permitted" if extra else jsontext.shorten(error["msg"], LONGEST_FAULT)
    return f"{where}: {message}" if where else message


def _has_no_number(data: Any) -> bool:
    """Whether somewhere in dumped data stands a float that JSON cannot say."""
    if isinstance(data, float):
        return not math.isfinite(data)
    items = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
    return any(_has_no_number(item) for item in items)


def _any_holds(schema: Any, name: str) -> bool:
    """Whether a keyword is set somewhere in a JSON Schema."""
    if isinstance(schema, Mapping):
        return schema.get(name) is True or any(_any_holds(item, name) for item in schema.values())
    return isinstance(schema, list) and any(_any_holds(item, name) for item in schema)


def _with_ordered_defaults(schema: Any) -> Any:
    """Return a JSON Schema in which the default of a set has one order: every process computes its digest."""
    if isinstance(schema, list):
        return [_with_ordered_defaults(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    ordered = {name: _with_ordered_defaults(item) for name, item in schema.items()}
    if ordered.get("uniqueItems") is True and isinstance(ordered.get("default"), list):
        ordered["default"] = sorted(ordered["default"], key=jsontext.canonical)
    return ordered
