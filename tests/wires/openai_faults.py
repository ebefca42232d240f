"""The errors of OpenAI's APIs: the same form for chat completions and for responses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .parts import Fault

BAD = "invalid_request_error"
HEADERS = {"x-request-id": "req_1"}


@dataclass(frozen=True)
class OpenAIError:
    """One error: its status, and the four members of its body."""

    status: int
    message: str
    type: str = BAD
    code: str | int | None = None
    param: str | None = None

    @property
    def body(self) -> dict[str, Any]:
        """The error's members."""
        return {"message": self.message, "type": self.type, "param": self.param, "code": self.code}


FAULTS = {
    Fault.KEY: OpenAIError(401, "Incorrect API key provided: key-of-a*test.", code="invalid_api_key"),
    # A 402 is not OpenAI's own: compatible servers such as DeepSeek's send it.
    Fault.CREDITS: OpenAIError(402, "Insufficient Balance", "unknown_error", BAD),
    Fault.FORBIDDEN: OpenAIError(
        403, "Country, region, or territory not supported", "request_forbidden", "unsupported_country_region_territory"
    ),
    Fault.MODEL: OpenAIError(
        404, "The model `test-1` does not exist or you do not have access to it.", code="model_not_found"
    ),
    Fault.LARGE: OpenAIError(413, "Maximum content size limit (26214400) exceeded (26214401 bytes read)"),
    Fault.RATE: OpenAIError(
        429, "Rate limit reached on tokens per min (TPM): Limit 30000.", "tokens", "rate_limit_exceeded"
    ),
    Fault.QUOTA: OpenAIError(
        429,
        "You exceeded your current quota, please check your plan and billing details.",
        "insufficient_quota",
        "insufficient_quota",
    ),
    Fault.SERVER: OpenAIError(500, "The server had an error while processing your request.", "server_error"),
    Fault.UNAVAILABLE: OpenAIError(503, "The service is temporarily unavailable.", "service_unavailable_error"),
    Fault.OVERLOADED: OpenAIError(
        503, "Our servers are currently overloaded.", "service_unavailable_error", "server_is_overloaded"
    ),
    Fault.CONTEXT: OpenAIError(
        400,
        "This model's maximum context length is 128000 tokens. However, your messages resulted in 200001 tokens. "
        "Please reduce the length of the messages.",
        code="context_length_exceeded",
        param="messages",
    ),
    Fault.INVALID: OpenAIError(
        400,
        "Unsupported value: 'temperature' does not support 3 with this model.",
        BAD,
        "unsupported_value",
        "temperature",
    ),
}


def wait_headers(wait: float | None) -> dict[str, str]:
    """Return the headers that ask a client to wait, in the two spellings OpenAI sends together."""
    if wait is None:
        return dict(HEADERS)
    return {**HEADERS, "retry-after-ms": str(int(wait * 1000)), "Retry-After": str(max(1, round(wait)))}
