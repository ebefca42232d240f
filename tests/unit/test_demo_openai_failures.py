"""How the demo's OpenAI-compatible provider fails: each refusal and each stream that breaks off has its code."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import pytest

from agentcore.exceptions import ModelError
from agentcore.providers import TextDelta
from agentcore.testing.faults.http_model import HttpModel, Pause, Reply, refuses
from agentcore.testing.faults.wire import chunk, sse
from supportdemo.providers.openai import OpenAIModel
from tests.unit.openai_room import model_at, request, run, stream_of


async def failure(provider: HttpModel, reply: Reply) -> ModelError:
    provider.replies.append(reply)
    with pytest.raises(ModelError) as caught:
        await run(provider)
    assert len(provider.requests) == 1  # the engine retries, not the SDK
    return caught.value


@pytest.mark.parametrize(
    "headers, seconds", [({"Retry-After": "7"}, 7.0), ({"retry-after-ms": "250"}, 0.25), ({}, None)]
)
async def test_rate_limit_keeps_the_time_to_wait(
    provider: HttpModel, headers: dict[str, str], seconds: float | None
) -> None:
    error = await failure(provider, refuses(429, "Slow down", "rate_limit_exceeded", headers))
    assert (error.run_code, error.retry_after, error.retryable) == ("rate_limited", seconds, True)


async def test_retry_after_may_be_a_date(provider: HttpModel) -> None:
    error = await failure(provider, refuses(503, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}))
    assert (error.run_code, error.retry_after) == ("overloaded", 0.0)


@pytest.mark.parametrize(
    "status, error, code, retryable",
    [
        (401, {"message": "Incorrect API key", "code": "invalid_api_key"}, "auth", False),
        (402, {"message": "Add credits", "code": 402}, "credits", False),
        (429, {"message": "Quota", "code": "insufficient_quota"}, "credits", False),
        (400, {"message": "Too long", "code": "context_length_exceeded"}, "context_overflow", False),
        (400, {"message": "Bad schema", "code": None}, "invalid_request", False),
        (503, {"message": "Busy"}, "overloaded", True),
        (500, {"message": "Oops"}, "provider_error", True),
    ],
)
async def test_refusals_are_classified(
    provider: HttpModel, status: int, error: dict[str, Any], code: str, retryable: bool
) -> None:
    raised = await failure(provider, refuses(status, error["message"], error.get("code")))
    assert (raised.run_code, raised.retryable) == (code, retryable)
    assert error["message"] in raised.message and "sk-secret" not in raised.message


async def test_error_in_the_middle_of_the_stream_is_classified(provider: HttpModel) -> None:
    reply = stream_of(chunk({"content": "Good "}), {"error": {"code": 503, "message": "Provider went away"}})
    assert (await failure(provider, reply)).run_code == "overloaded"


async def test_stream_cut_off_in_the_middle_is_a_network_error(provider: HttpModel) -> None:
    error = await failure(provider, Reply([sse(chunk({"content": "Good "}))], whole=False))
    assert (error.run_code, error.retryable) == ("network", True)


async def test_stream_that_ends_without_a_finish_is_a_network_error(provider: HttpModel) -> None:
    assert (await failure(provider, stream_of(chunk({"content": "Good "})))).run_code == "network"


async def test_something_that_is_not_json_is_a_provider_error(provider: HttpModel) -> None:
    assert (await failure(provider, stream_of("<html>"))).run_code == "provider_error"


async def test_unreachable_provider_is_a_network_error() -> None:
    model = OpenAIModel("test-1", api_key="sk-secret", base_url="http://127.0.0.1:9/v1")
    with pytest.raises(ModelError) as caught:
        [event async for event in model.stream(request())]
    assert caught.value.run_code == "network"


async def test_closing_the_iterator_closes_the_connection(provider: HttpModel) -> None:
    provider.replies.append(Reply([sse(chunk({"content": "word "})), Pause()]))
    async with aclosing(model_at(provider).stream(request())) as events:
        assert await anext(events) == TextDelta("word ")
    assert provider.hung_up.wait(5)
