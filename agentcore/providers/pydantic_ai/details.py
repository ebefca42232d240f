"""What a provider wants back with a part: from pydantic-ai's fields into JSON data, and back into its fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pydantic_core
from pydantic_ai.messages import ModelResponse, ModelResponsePart, NativeToolCallPart, NativeToolReturnPart

from ...values.parts import ProviderDetails

__all__ = ["fields_of", "of_part", "of_response", "plain", "response_fields"]

FIELDS = ("id", "signature", "provider_name", "provider_details")
RESPONSE = ("provider_name", "provider_url", "canonical_system", "provider_response_id", "provider_details")
# What a provider tells of an answer and reads from none.
TOLD = frozenset(
    "finish_reason timestamp logprobs avg_logprobs service_tier traffic_type safety_ratings moderation unmapped "
    "refusal refusal_category system_fingerprint transport".split()
)


def of_part(part: ModelResponsePart) -> dict[str, Any] | None:
    """Return what the provider of a part wants back with it; None where that is nothing."""
    found = {name: value for name in FIELDS if (value := getattr(part, name, None))}
    if "provider_details" in found:
        found["provider_details"] = _kept(found["provider_details"])
    wanted = {name: value for name, value in found.items() if value}
    is_native = isinstance(part, NativeToolCallPart | NativeToolReturnPart)
    return plain(wanted) if wanted.keys() - {"provider_name"} or (wanted and is_native) else None


def fields_of(details: ProviderDetails) -> dict[str, Any]:
    """Return the fields of a part that its details say."""
    return {name: details[name] for name in FIELDS if name in details}


def of_response(response: ModelResponse) -> dict[str, Any]:
    """Return what tells a provider, with the answer as a whole, that its parts are its own."""
    found = {name: getattr(response, name) for name in RESPONSE}
    found["provider_details"] = _kept(found["provider_details"] or {})
    wanted: dict[str, Any] = plain({name: value for name, value in found.items() if value})
    return wanted


def response_fields(details: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a response that its details say."""
    return {name: details[name] for name in RESPONSE if name in details}


def plain(value: Any) -> Any:
    """Return a value as JSON data: bytes as base64, times and numbers that JSON lacks as text."""
    return pydantic_core.to_jsonable_python(value, bytes_mode="base64", fallback=str)


def _kept(details: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in details.items() if name not in TOLD and value is not None}
