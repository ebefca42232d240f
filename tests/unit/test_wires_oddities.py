"""What compatible servers do is really on the wire: the published client makes of it what it makes of theirs."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic_ai import exceptions as heard
from pydantic_ai.messages import ModelResponse

from agentcore.testing.faults.http_model import Reply
from agentcore.testing.faults.wire import sse
from tests.unit.published import hear, published
from tests.wires import WIRES
from tests.wires.oddities import ANSWERS, CALLS, ERRORS, SAID, TEXT, keeps_alive

pytestmark = [pytest.mark.once, pytest.mark.longer]

CHAT = WIRES["chat"]
LOST = {"broken off after the reason"}
"""Whole answers on which the published client falls."""

ONE, TWO = ("look", '{"n": 1}'), ("look", '{"n": 2}')
ASKED: dict[str, list[tuple[str, object]]] = {
    "two calls without index": [ONE, TWO],
    "two calls without index in one chunk": [ONE, TWO],
    "two calls without index and id": [ONE, TWO],
    "two calls with one id": [ONE, TWO],
    "two calls under one index": [("looklook", '{"n": 1}{"n": 2}')],
    "id and name in every piece": [("looklook", '{"n": 1}')],
    "name empty": [("", '{"n": 1}')],
    "arguments null": [("look", None)],
    "arguments empty": [("look", "")],
    "arguments {}": [("look", "{}")],
    "arguments null as text": [("look", "null")],
    "arguments as an object": [("look", {"n": 1})],
    "arguments no JSON": [("look", "n=1")],
    "arguments cut off": [("look", '{"n"')],
    "arguments said twice": [("look", '{"n": 1}{"n": 1}')],
    "the old function_call": [],
}
"""What comes of the calls; of the others comes the one call that is meant."""

IGNORED = {"in the choice", "without the word error"}
"""Errors that the published client passes over."""


async def ask(reply: Reply, **settings: Any) -> ModelResponse:
    with CHAT.serve(reply) as server:
        async with published(CHAT, server) as model:
            return await hear(model, **settings)


@pytest.mark.filterwarnings("ignore:Unexpected non-string value for 'reasoning'")
@pytest.mark.parametrize("name", ANSWERS)
async def test_an_odd_answer_is_still_what_it_says(name: str) -> None:
    if name in LOST:
        with pytest.raises(heard.ModelConnectionError):
            await ask(ANSWERS[name])
        return
    assert (await ask(ANSWERS[name])).text == TEXT


@pytest.mark.parametrize("name", CALLS)
async def test_odd_calls_are_what_the_published_client_makes_of_them(name: str) -> None:
    answer = await ask(CALLS[name])
    assert [(call.tool_name, call.args) for call in answer.tool_calls] == ASKED.get(name, [ONE])
    assert all(call.tool_call_id for call in answer.tool_calls)


@pytest.mark.parametrize("name", ERRORS)
async def test_an_error_inside_the_stream_ends_it(name: str) -> None:
    reply = Reply([sse(SAID), ERRORS[name]])
    if name in IGNORED:
        assert (await ask(reply)).text == TEXT
        return
    with pytest.raises(heard.ModelAPIError):
        await ask(reply)


async def test_comments_may_come_for_longer_than_the_idle_limit() -> None:
    assert (await ask(keeps_alive(times=4, seconds=0.25), timeout=0.9)).text == TEXT


async def test_counts_in_every_chunk_are_summed_unless_the_setting_says_what_they_are() -> None:
    with CHAT.serve(*[ANSWERS["counts in every chunk, each of all so far"]] * 2) as server:
        async with published(CHAT, server) as model:
            summed, kept = await hear(model), await hear(model, openai_continuous_usage_stats=True)
    assert (summed.usage.input_tokens, summed.usage.output_tokens) == (20, 7)
    assert (kept.usage.input_tokens, kept.usage.output_tokens) == (10, 5)
