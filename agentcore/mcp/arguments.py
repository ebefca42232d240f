"""Arguments by a JSON Schema that a server gives: checked against it, and otherwise left as the model sent them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from jsonschema import Draft202012Validator, SchemaError, validators
from referencing import Registry

from ..exceptions import ModelRetry, NotKept
from ..values import jsontext
from ..values.functions import kind_of

MOST = 5
LONGEST_PLACE = 100
LONGEST_FAULT = 300
LONGEST_SCHEMA = 100_000  # bytes


class UnusableSchema(Exception):
    """A schema that no arguments can be checked against; the message says why, without words of the server's."""


def _unchecked(*about: Any) -> Iterator[Any]:
    """Find no fault."""
    return iter(())


# A pattern of somebody else's may keep a thread, and the interpreter with it, busy for ever: only its server tries it.
# What depends on one is left to it, too.
_PATTERNS = dict.fromkeys(("pattern", "patternProperties", "unevaluatedProperties"), _unchecked)


@dataclass(frozen=True)
class ServerArguments:
    """The arguments of one tool of a server; `digest` is of all that an approval binds of the tool.

    Reading them takes as long as the schema says, so it may block.
    """

    what: str
    schema: Mapping[str, Any]
    digest: str
    validator: Any
    runs_code: bool = True

    @classmethod
    def of(cls, what: str, schema: Mapping[str, Any], digest: str) -> ServerArguments:
        """Return the arguments of a schema; raises `UnusableSchema`."""
        if jsontext.unkept(schema):
            raise UnusableSchema("its schema is no JSON, or nested too deeply")
        if jsontext.size(schema) > LONGEST_SCHEMA:
            raise UnusableSchema(f"its schema takes more than {LONGEST_SCHEMA} bytes")
        if schema.get("type") != "object":
            raise UnusableSchema("its arguments are no object")
        base = validators.validator_for(schema, default=Draft202012Validator)
        checks = {**_PATTERNS, "additionalProperties": _additional(base)}
        kind = validators.extend(base, checks)
        try:
            base.check_schema(schema)
        except (SchemaError, RecursionError) as error:
            raise UnusableSchema("its schema is not valid") from error
        return cls(what, schema, digest, kind(schema, registry=Registry()))

    def record(self, raw: Any) -> Any:
        """Return the JSON data to store of what a model sent, which is all of it; raises `ModelRetry` for faults."""
        if unkept := jsontext.unkept(raw):
            raise ModelRetry(f"It cannot be kept as it is: it has {unkept}. Send it without")
        if faults := self._faults(raw):
            raise ModelRetry(faults)
        return json.loads(jsontext.canonical(raw))

    def given(self, stored: Any) -> Any:
        """Return what was recorded, as the server is given it; raises `NotKept` where its schema refuses that now."""
        if faults := self._faults(stored):
            raise NotKept(f"{self.what}: what was recorded is not accepted any more. {faults}")
        return json.loads(jsontext.canonical(stored))

    def _faults(self, data: Any) -> str:
        try:
            found = list(islice(self.validator.iter_errors(data), MOST))
        except Exception as error:  # a reference that leads nowhere, or in a circle
            return f"Its server's schema cannot be followed ({kind_of(error)})"
        return "; ".join(map(_fault, found))


def _additional(base: Any) -> Any:
    """Return the check of properties that are not named; beside patterns it is left to the server."""
    check = base.VALIDATORS["additionalProperties"]

    def additional(validator: Any, allowed: Any, instance: Any, schema: Mapping[str, Any]) -> Iterator[Any]:
        if "patternProperties" not in schema:
            yield from check(validator, allowed, instance, schema) or ()

    return additional


def _fault(error: Any) -> str:
    # Both may hold what the model sent.
    where = jsontext.shorten(".".join(map(str, error.absolute_path)), LONGEST_PLACE)
    said = jsontext.shorten(error.message, LONGEST_FAULT)
    return f"{where}: {said}" if where else said
