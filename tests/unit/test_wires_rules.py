"""The servers of the wires refuse what the real ones refuse, in their words, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import httpx
import pytest

from tests.wires import WIRES
from tests.wires.chat_rules import one_system_message

pytestmark = [pytest.mark.once, pytest.mark.longer]

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}


def seal(name: str) -> str:
    return WIRES[name].seal("s1")


FUNCTION = {"name": "look", "arguments": '{"n": 1}'}
CHAT: dict[str, Any] = {
    "model": "test-1",
    "stream": True,
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Go"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": FUNCTION}],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "found"},
        {"role": "system", "content": "Be kind."},
    ],
    "tools": [{"type": "function", "function": {"name": "look", "parameters": SCHEMA, "strict": True}}],
}
RESPONSES: dict[str, Any] = {
    "model": "test-1",
    "stream": True,
    "store": False,
    "input": [
        {"role": "user", "content": "Go"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": seal("responses")},
        {"type": "function_call", "id": "fc_1_needs_rs_1", "call_id": "call_1", **FUNCTION},
        {"type": "function_call", "id": "fc_2", "call_id": "call_2", **FUNCTION},
        {"type": "function_call_output", "call_id": "call_2", "output": "found"},
        {"type": "function_call_output", "call_id": "call_1", "output": "found"},
    ],
    "tools": [{"type": "function", "name": "look", "parameters": SCHEMA, "strict": True}],
}
ANTHROPIC: dict[str, Any] = {
    "model": "test-1",
    "stream": True,
    "max_tokens": 2048,
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "messages": [
        {"role": "user", "content": "Go"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm", "signature": seal("anthropic")},
                {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"n": 1}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": "found"},
                {"type": "text", "text": "Go on"},
            ],
        },
    ],
    "tools": [{"name": "look", "input_schema": SCHEMA}],
}
GEMINI: dict[str, Any] = {
    "contents": [
        {"role": "user", "parts": [{"text": "Go"}]},
        {
            "role": "model",
            "parts": [
                {"functionCall": {"name": "look", "args": {"n": 1}}, "thoughtSignature": seal("gemini")},
                {"functionCall": {"name": "look", "args": {"n": 2}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"name": "look", "response": {"result": "found"}}},
                {"functionResponse": {"name": "look", "response": {"result": "found"}}},
            ],
        },
    ],
    "tools": [{"functionDeclarations": [{"name": "look", "parametersJsonSchema": SCHEMA}]}],
}
GOOD: dict[str, tuple[str, dict[str, Any], dict[str, str]]] = {
    "chat": ("/v1/chat/completions", CHAT, {"Authorization": "Bearer key"}),
    "openrouter": ("/v1/chat/completions", CHAT, {"Authorization": "Bearer key"}),
    "responses": ("/v1/responses", RESPONSES, {"Authorization": "Bearer key"}),
    "anthropic": ("/v1/messages", ANTHROPIC, {"x-api-key": "key", "anthropic-version": "2023-06-01"}),
    "gemini": ("/v1beta/models/gemini-3-pro-preview:streamGenerateContent?alt=sse", GEMINI, {"x-goog-api-key": "key"}),
}

Change = Callable[[dict[str, Any]], Any]


def drop(*path: Any) -> Change:
    def change(body: Any) -> None:
        for step in path[:-1]:
            body = body[step]
        del body[path[-1]]

    return change


def put(value: Any, *path: Any) -> Change:
    def change(body: Any) -> None:
        for step in path[:-1]:
            body = body[step]
        body[path[-1]] = value

    return change


def add(value: Any, *path: Any) -> Change:
    def change(body: Any) -> None:
        for step in path:
            body = body[step]
        body.append(value)

    return change


BAD: list[tuple[str, Change, str]] = [
    ("chat", drop("messages", 3), "must be followed by tool messages responding to each 'tool_call_id'"),
    ("chat", drop("messages", 2), "must be a response to a preceeding message with 'tool_calls'"),
    ("chat", put("call_9", "messages", 3, "tool_call_id"), "must be a response to a preceeding message"),
    ("chat", put("no such!", "messages", 2, "tool_calls", 0, "function", "name"), "does not match pattern"),
    ("chat", put("c" * 41, "messages", 2, "tool_calls", 0, "id"), "maximum length 40"),
    ("chat", put({"n": 1}, "messages", 2, "tool_calls", 0, "function", "arguments"), "expected a string"),
    ("chat", put([], "messages", 2, "tool_calls"), "empty array"),
    ("chat", put(None, "messages", 1, "content"), "expected a string, got null"),
    ("chat", put([], "messages", 1, "content"), "empty array"),
    ("chat", put([], "messages"), "empty array"),
    ("chat", put([], "tools"), "empty array"),
    ("chat", put("a.b", "tools", 0, "function", "name"), "does not match pattern"),
    ("chat", drop("tools", 0, "function", "parameters", "additionalProperties"), "'additionalProperties' is required"),
    ("chat", put([], "tools", 0, "function", "parameters", "required"), "Missing 'n'"),
    ("chat", put("Hm", "messages", 2, "rs_1"), "Unknown parameter: 'messages[2].rs_1'"),
    ("chat", drop("model"), "model"),
    ("chat", drop("stream"), "'stream' must be true"),
    (
        "openrouter",
        put([{"type": "reasoning.text", "text": "Hm", "signature": "another's"}], "messages", 2, "reasoning_details"),
        "Invalid `signature`",
    ),
    ("responses", drop("input", 5), "No tool output found for function call call_1"),
    ("responses", drop("input", 3), "No tool call found for function call output with call_id call_2"),
    ("responses", drop("input", 1), "without its required 'reasoning' item: 'rs_1'"),
    ("responses", put(RESPONSES["input"][:2], "input"), "without its required following item"),
    ("responses", drop("input", 1, "encrypted_content"), "Items are not persisted when `store` is set to false"),
    ("responses", put("another's", "input", 1, "encrypted_content"), "could not be verified"),
    ("responses", put("call_7", "input", 3, "id"), "Expected an ID that begins with 'fc'"),
    ("responses", put("fc_1_needs_rs_1", "input", 3, "id"), "Duplicate item found with id"),
    ("responses", put("fc_" + "1" * 64, "input", 3, "id"), "maximum length 64"),
    ("responses", put("no such!", "input", 3, "name"), "does not match pattern"),
    ("responses", put({}, "input", 3, "arguments"), "expected a string"),
    ("responses", drop("tools", 0, "parameters", "additionalProperties"), "'additionalProperties' is required"),
    ("responses", put([], "input"), "Missing required parameter"),
    ("anthropic", drop("messages", 2), "`tool_use` ids were found without `tool_result` blocks immediately after"),
    ("anthropic", put("Go on", "messages", 2, "content"), "`tool_use` ids were found without `tool_result`"),
    ("anthropic", put(ANTHROPIC["messages"][2]["content"][::-1], "messages", 2, "content"), "ids were found without"),
    ("anthropic", drop("messages", 1), "unexpected `tool_use_id` found in `tool_result` blocks"),
    ("anthropic", add(ANTHROPIC["messages"][1]["content"][1], "messages", 1, "content"), "ids must be unique"),
    ("anthropic", drop("messages", 1, "content", 0, "signature"), "thinking.signature: Field required"),
    (
        "anthropic",
        put("another's", "messages", 1, "content", 0, "signature"),
        "Invalid `signature` in `thinking` block",
    ),
    ("anthropic", drop("messages", 1, "content", 0), "Expected `thinking` or `redacted_thinking`"),
    ("anthropic", put("toolu:1", "messages", 1, "content", 1, "id"), "String should match pattern"),
    ("anthropic", put("toolu 1", "messages", 2, "content", 0, "tool_use_id"), "String should match pattern"),
    ("anthropic", put("a.b", "messages", 1, "content", 1, "name"), "String should match pattern"),
    ("anthropic", put("{}", "messages", 1, "content", 1, "input"), "should be a valid dictionary"),
    ("anthropic", put("", "messages", 2, "content", 1, "text"), "text content blocks must be non-empty"),
    ("anthropic", put(" ", "messages", 2, "content", 1, "text"), "must contain non-whitespace text"),
    (
        "anthropic",
        put([{"type": "text", "text": ""}], "messages", 2, "content", 0, "content"),
        "text content blocks must be non-empty",
    ),
    ("anthropic", put("", "messages", 0, "content"), "must have non-empty content"),
    ("anthropic", drop("messages", 0), 'first message must use the "user" role'),
    ("anthropic", put([], "messages"), "at least one message is required"),
    ("anthropic", drop("max_tokens"), "max_tokens: Field required"),
    ("anthropic", put(1024, "max_tokens"), "must be greater than `thinking.budget_tokens`"),
    ("anthropic", add({"name": "look", "input_schema": SCHEMA}, "tools"), "Tool names must be unique"),
    ("anthropic", put({}, "tools", 0, "input_schema"), "input_schema.type: Field required"),
    (
        "gemini",
        drop("contents", 1, "parts", 0, "thoughtSignature"),
        "missing a thought_signature in functionCall parts",
    ),
    ("gemini", put("YW5vdGhlcg==", "contents", 1, "parts", 0, "thoughtSignature"), "Corrupted thought signature"),
    ("gemini", drop("contents", 2, "parts", 0), "equal to the number of function call parts"),
    ("gemini", drop("contents", 2), "equal to the number of function call parts"),
    ("gemini", drop("contents", 1), "function response turn comes immediately after a function call turn"),
    ("gemini", drop("contents", 0), "function call turn comes immediately after a user turn"),
    ("gemini", put([], "contents", 0, "parts"), "contents.parts must not be empty"),
    ("gemini", put([], "contents"), "contents is not specified"),
    ("gemini", put("", "contents", 2, "parts", 0, "functionResponse", "name"), "Name cannot be empty"),
    ("gemini", put("1st", "tools", 0, "functionDeclarations", 0, "name"), "Invalid function name"),
]


def post(name: str, body: dict[str, Any], **changed: Any) -> httpx.Response:
    """Send a body to a server of a wire that has one answer."""
    wire = WIRES[name]
    path, _, headers = GOOD[name]
    with wire.serve(wire.says("Good day.")) as server:
        return httpx.post(
            f"{server.address}{changed.get('path', path)}",
            json=body,
            headers=changed.get("headers", headers),
            timeout=10,
        )


@pytest.mark.parametrize("name", WIRES)
def test_a_good_request_is_answered(name: str) -> None:
    response = post(name, GOOD[name][1])
    assert (response.status_code, response.headers["content-type"]) == (200, "text/event-stream"), response.text
    assert "Good day." in response.text


@pytest.mark.parametrize("number", range(len(BAD)), ids=lambda number: f"{BAD[number][0]}-{number}")
def test_a_bad_request_is_refused_in_the_providers_words(number: int) -> None:
    name, change, message = BAD[number]
    body = deepcopy(GOOD[name][1])
    change(body)
    response = post(name, body)
    assert 400 <= response.status_code < 500
    assert message in response.json()["error"]["message"]


@pytest.mark.parametrize("name", WIRES)
def test_without_a_key_and_at_a_wrong_address_a_request_is_refused(name: str) -> None:
    path, body, headers = GOOD[name]
    kept = {key: value for key, value in headers.items() if "version" in key}
    assert post(name, body, headers=kept).status_code in (401, 403)
    assert post(name, body, path=path.replace("/v1", "/v2")).status_code == 404


def test_responses_that_are_stored_need_no_content_again() -> None:
    body = deepcopy(RESPONSES)
    del body["input"][1]["encrypted_content"]
    assert post("responses", {**body, "store": True}).status_code == 200
    continued = {**body, "store": True, "input": body["input"][4:], "previous_response_id": "resp_1"}
    assert post("responses", continued).status_code == 200


def test_gemini_asks_for_no_signature_of_an_earlier_turn_and_takes_the_one_for_calls_of_others() -> None:
    body = deepcopy(GEMINI)
    call = body["contents"][1]["parts"][0]
    call["thoughtSignature"] = "skip_thought_signature_validator"
    assert post("gemini", body).status_code == 200
    del call["thoughtSignature"]
    body["contents"] += [{"role": "model", "parts": [{"text": "Hm"}]}, {"role": "user", "parts": [{"text": "Go on"}]}]
    assert post("gemini", body).status_code == 200


def test_a_refusal_takes_no_answer_from_the_script() -> None:
    wire = WIRES["chat"]
    path, body, headers = GOOD["chat"]
    with wire.serve(wire.says("Good day.")) as server:
        refused = httpx.post(f"{server.address}{path}", json={**body, "messages": []}, headers=headers, timeout=10)
        answered = httpx.post(f"{server.address}{path}", json=body, headers=headers, timeout=10)
    assert (refused.status_code, answered.status_code, server.unexpected) == (400, 200, 0)


def test_some_servers_take_one_system_message_only() -> None:
    wire = WIRES["chat"]
    path, body, headers = GOOD["chat"]
    with wire.serve(wire.says("Good day."), also=[one_system_message]) as server:
        refused = httpx.post(f"{server.address}{path}", json=body, headers=headers, timeout=10)
        one = {**body, "messages": body["messages"][:-1]}
        answered = httpx.post(f"{server.address}{path}", json=one, headers=headers, timeout=10)
    assert (refused.status_code, answered.status_code) == (400, 200)
    assert "System message must be at the beginning" in refused.text
