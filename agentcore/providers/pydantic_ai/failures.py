"""What pydantic-ai raises, as a `ModelError` with a code."""

from __future__ import annotations

import json
from collections.abc import Iterable

from pydantic import ValidationError
from pydantic_ai import exceptions as pai

from ...exceptions import ModelError
from .clients import Line

__all__ = ["BROKE_OFF", "model_error_of"]

BROKE_OFF = "The model provider's answer broke off."

CODES: tuple[tuple[type[Exception], str], ...] = (
    (pai.ModelQuotaExceededError, "credits"),
    (pai.ModelRateLimitError, "rate_limited"),
    (pai.ModelUnavailableError, "overloaded"),
    (pai.ModelServerError, "provider_error"),
    (pai.ModelContextWindowExceededError, "context_overflow"),
    (pai.ModelAuthenticationError, "auth"),
    (pai.ModelRequestRejectedError, "invalid_request"),
    (pai.ModelTimeoutError, "timeout"),
    (pai.ModelRequestTimeout, "timeout"),
    (pai.ModelConnectionError, "network"),
)
"""The first that fits counts: some are kinds of others."""
MISTAKES = (pai.UserError, NotImplementedError)
SAID: dict[str | None, str] = {
    "invalid_request_error": "invalid_request",
    "permission_error": "auth",
    "request_forbidden": "auth",
    "authentication_error": "auth",
    "insufficient_credits": "credits",
    "billing_error": "credits",
    "request_too_large": "context_overflow",
}
"""By the provider's own words, where an error in the middle of a stream has no status."""
STATUSES = {408: "timeout", 413: "context_overflow"}
HIDDEN = "[hidden]"
SHORTEST_KEY = 8
"""Characters that a key has at least: what is shorter, such as "none" for a server without keys, is a word."""


def model_error_of(error: Exception, *, keys: Iterable[str] = (), on: Line | None = None) -> ModelError | None:
    """Return the model's failure that an exception of pydantic-ai stands for; None for any other exception.

    `keys` are left out of what it says, and `on` tells what kind of answer came where it was no stream.
    """
    if isinstance(error, ModelError):
        return error
    if isinstance(error, ExceptionGroup):  # of a list of models that pydantic-ai asks: the last one's counts
        last = error.exceptions[-1]
        return model_error_of(last, keys=keys, on=on) if isinstance(last, Exception) else None
    if isinstance(error, MISTAKES):
        return ModelError(_without(keys, f"The model cannot take this request: {error}"), code="invalid_request")
    page = _no_stream(on)
    if isinstance(error, pai.ModelAPIError) and (_is_told(error) or not page):
        code = _by_kind(error) or _by_status(error, on)
        return ModelError(_without(keys, _about(error, code)), code=code, retry_after=error.retry_after)
    if page:
        return ModelError(_without(keys, page))
    if isinstance(error, pai.UnexpectedModelBehavior | ValidationError):
        return ModelError(_without(keys, f"The model provider said what cannot be read: {_unread(error)}"))
    return None


def _unread(error: pai.UnexpectedModelBehavior | ValidationError) -> str:
    """Return what was wrong with an answer, without the answer: nobody has judged that yet."""
    invalid = error if isinstance(error, ValidationError) else error.__cause__
    if isinstance(invalid, ValidationError):
        found = invalid.errors(include_url=False, include_context=False, include_input=False)
        return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in found)
    return error.message if isinstance(error, pai.UnexpectedModelBehavior) else ""


def _is_told(error: pai.ModelAPIError) -> bool:
    """Whether it has a kind or a name, which the provider or the network gave it; what an SDK cannot read has none."""
    return bool(_by_kind(error) or error.provider_error_code or error.provider_error_type)


def _by_kind(error: pai.ModelAPIError) -> str | None:
    return next((code for kind, code in CODES if isinstance(error, kind)), None)


def _about(error: pai.ModelAPIError, code: str) -> str:
    if isinstance(error, pai.ModelNotFoundError):
        return f"The model provider does not know the model {error.model_name!r}, or its base URL is wrong: {error}"
    if code == "network":
        return f"The connection to the model provider failed: {error}"
    if code == "timeout":
        return f"The model provider did not answer in time: {error}"
    return f"The model provider refused: {error}"


def _by_status(error: pai.ModelAPIError, on: Line | None) -> str:
    """Return the code of an error that has no category, by its status or else by its provider's own words."""
    status = getattr(error, "status_code", None) or (on.status if on is not None else 0)
    named = (error.provider_error_code, error.provider_error_type)
    said = STATUSES.get(status) or next((SAID[name] for name in named if name in SAID), None)
    if said is not None:
        return said
    return "invalid_request" if 300 <= status < 500 else "provider_error"


def _no_stream(on: Line | None) -> str:
    """Return what came in the place of a stream, where something did: the page of a proxy, or of a wrong address.

    Only a page and an error are quoted: anything else may be an answer, which nobody has judged yet.
    """
    if on is None or on.status != 200 or on.media_type in ("", "text/event-stream"):
        return ""
    said = on.said.decode("utf-8", "replace").strip()
    quoted = said if on.media_type == "text/html" else _error_in(said)
    answered = f"The model provider answered with {on.media_type} instead of a stream. Check its base URL."
    return f"{answered} It said: {quoted}" if quoted else answered


def _error_in(said: str) -> str:
    """Return the error that a JSON body tells of; empty where it tells of none."""
    try:
        body = json.loads(said)
    except ValueError:
        return ""
    error = body.get("error") if isinstance(body, dict) else None
    return json.dumps(error, ensure_ascii=False) if error else ""


def _without(keys: Iterable[str], said: str) -> str:
    for key in keys:
        said = said.replace(key, HIDDEN) if len(key) >= SHORTEST_KEY else said
    return said
