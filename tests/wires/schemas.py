"""What OpenAI asks of a JSON schema that is to be kept strictly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .wire import Complaint


def check_strict(name: str, schema: Any) -> None:
    """Raise a Complaint where an object allows more than it names, or does not require all that it names."""
    if isinstance(schema, list):
        for item in schema:
            check_strict(name, item)
    if not isinstance(schema, Mapping):
        return
    if schema.get("type") == "object":
        where = f"Invalid schema for '{name}': In context=()"
        if schema.get("additionalProperties") is not False:
            raise Complaint(f"{where}, 'additionalProperties' is required to be supplied and to be false.")
        if missing := set(schema.get("properties", {})) - set(schema.get("required", ())):
            raise Complaint(f"{where}, 'required' is required to include every key. Missing '{min(missing)}'.")
    for value in schema.values():
        check_strict(name, value)
