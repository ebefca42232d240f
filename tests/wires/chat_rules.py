"""What OpenAI's chat completions refuse in a request, in the words it has for it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from agentcore.testing.faults.http_model import Reply, Seen, refuses

from .schemas import check_strict
from .wire import Complaint

NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
CALL_ID_LENGTH = 40
MEMBERS = {"role", "content", "name", "refusal", "audio", "annotations", "tool_calls", "tool_call_id", "cache_control"}
REASONING = {"reasoning", "reasoning_content", "reasoning_details"}


def examine(seen: Seen) -> None:
    """Raise a Complaint where a request is not one that chat completions take."""
    check_door(seen, "/chat/completions")
    body = seen.body
    messages: Sequence[Mapping[str, Any]] = body.get("messages") or ()
    if not messages:
        raise Complaint("Invalid 'messages': empty array. Expected an array with minimum length 1.")
    for place, message in enumerate(messages):
        _check_message(place, message)
    _check_pairs(messages)
    if body.get("tools") == []:
        raise Complaint("Invalid 'tools': empty array. Expected an array with minimum length 1.")
    for place, tool in enumerate(body.get("tools") or ()):
        function = tool.get("function")
        if function is None:  # a tool that the provider runs
            continue
        check_name(f"tools[{place}].function.name", function["name"])
        if function.get("strict"):
            check_strict(function["name"], function["parameters"])
    form = body.get("response_format") or {}
    if form.get("type") == "json_schema":
        check_name("response_format.json_schema.name", form["json_schema"].get("name", ""))
        if form["json_schema"].get("strict"):
            check_strict(form["json_schema"]["name"], form["json_schema"]["schema"])


def one_system_message(seen: Seen) -> Reply | None:
    """Refuse a system message that is not the first message, as servers with strict chat templates do."""
    roles = [message["role"] for message in seen.body["messages"]]
    if any(role in ("system", "developer") for role in roles[1:]):
        return refuses(400, "System message must be at the beginning.")
    return None


def check_door(seen: Seen, path: str) -> None:
    """Raise a Complaint for a wrong address, a missing key, or a request that asks for no stream."""
    if not seen.path.split("?")[0].endswith(f"/v1{path}"):
        raise Complaint(f"Invalid URL (POST {seen.path})", 404)
    if not seen.headers.get("authorization", "").removeprefix("Bearer").strip():
        raise Complaint("You didn't provide an API key.", 401)
    if not seen.body.get("model"):
        raise Complaint("you must provide a model parameter")
    if seen.body.get("stream") is not True:
        raise Complaint("The server of the tests speaks in streams only: 'stream' must be true.")


def check_name(path: str, name: str) -> None:
    """Raise a Complaint for a name of a tool or a schema that OpenAI does not take."""
    if not NAME.fullmatch(name):
        raise Complaint(
            f"Invalid '{path}': string does not match pattern. "
            "Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'.",
            code="invalid_value",
        )


def _check_message(place: int, message: Mapping[str, Any]) -> None:
    calls = message.get("tool_calls")
    for member in set(message) - MEMBERS - REASONING:
        raise Complaint(f"Unknown parameter: 'messages[{place}].{member}'.", code="unknown_parameter")
    if calls == []:
        raise Complaint(
            f"Invalid 'messages[{place}].tool_calls': empty array. Expected an array with minimum length 1."
        )
    if message.get("content") is None and not (message["role"] == "assistant" and (calls or message.get("refusal"))):
        raise Complaint("Invalid value for 'content': expected a string, got null.")
    if message.get("content") == []:
        raise Complaint(f"Invalid 'messages[{place}].content': empty array. Expected an array with minimum length 1.")
    for number, call in enumerate(calls or ()):
        path = f"messages[{place}].tool_calls[{number}]"
        check_name(f"{path}.function.name", call["function"]["name"])
        if not isinstance(call["function"].get("arguments"), str):
            raise Complaint(f"Invalid type for '{path}.function.arguments': expected a string.")
        if len(call["id"]) > CALL_ID_LENGTH:
            raise Complaint(f"Invalid '{path}.id': string too long. Expected a string with maximum length 40.")


def _check_pairs(messages: Sequence[Mapping[str, Any]]) -> None:
    """Every call is answered by the tool messages right after it, and every tool message answers one of those."""
    waiting: list[str] = []
    called: set[str] = set()
    for message in [*messages, {"role": "end"}]:
        if message["role"] == "tool":
            if message["tool_call_id"] not in called:
                raise Complaint(
                    "Invalid parameter: messages with role 'tool' must be a response to a preceeding message "
                    "with 'tool_calls'."
                )
            waiting = [call_id for call_id in waiting if call_id != message["tool_call_id"]]
            continue
        if waiting:
            raise Complaint(
                "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
                f"'tool_call_id'. The following tool_call_ids did not have response messages: {', '.join(waiting)}"
            )
        waiting = [call["id"] for call in message.get("tool_calls") or ()]
        called = set(waiting)
