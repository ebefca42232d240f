"""What Anthropic's messages API refuses in a request, in the words it has for it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agentcore.testing.faults.http_model import Seen

from .wire import Complaint

TOOL_ID = re.compile(r"[a-zA-Z0-9_-]+")
TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")

Blocks = Sequence[Mapping[str, Any]]
Sealed = Callable[[str], bool]


def examine(seen: Seen, sealed: Sealed) -> None:
    """Raise a Complaint where a request is not one that the API takes; `sealed` knows its own signatures."""
    _check_door(seen)
    body = seen.body
    messages: Sequence[Mapping[str, Any]] = body.get("messages") or ()
    if not messages:
        raise Complaint("messages: at least one message is required")
    if messages[0]["role"] != "user":
        raise Complaint('messages: first message must use the "user" role')
    contents = [_blocks(place, message, final=place == len(messages) - 1) for place, message in enumerate(messages)]
    for place, blocks in enumerate(contents):
        for number, block in enumerate(blocks):
            _check_block(f"messages.{place}.content.{number}", block, sealed)
    _check_pairs([(message["role"], blocks) for message, blocks in zip(messages, contents, strict=True)])
    _check_thinking(body, messages, contents)
    _check_tools(body)


def _check_door(seen: Seen) -> None:
    if seen.path.split("?")[0] != "/v1/messages":
        raise Complaint(f"Not found: {seen.path}", 404)
    if not (seen.headers.get("x-api-key") or seen.headers.get("authorization")):
        raise Complaint("x-api-key header is required", 401)
    if not seen.headers.get("anthropic-version"):
        raise Complaint("anthropic-version: header is required")
    for member in ("model", "max_tokens"):
        if not seen.body.get(member):
            raise Complaint(f"{member}: Field required")
    if seen.body.get("stream") is not True:
        raise Complaint("stream: The server of the tests speaks in streams only")


def _blocks(place: int, message: Mapping[str, Any], *, final: bool) -> Blocks:
    """Return the content as blocks; only the assistant's last message may be empty."""
    content = message["content"]
    if not content and not (final and message["role"] == "assistant"):
        raise Complaint(
            f"messages.{place}: all messages must have non-empty content "
            "except for the optional final assistant message"
        )
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _check_block(path: str, block: Mapping[str, Any], sealed: Sealed) -> None:
    match block["type"]:
        case "text":
            _check_text(block["text"])
        case "thinking":
            if "signature" not in block:
                raise Complaint(f"{path}.thinking.signature: Field required")
            if not sealed(block["signature"]):
                raise Complaint(f"{path}: Invalid `signature` in `thinking` block")
        case "redacted_thinking":
            if not sealed(block["data"]):
                raise Complaint(f"{path}: Invalid `data` in `redacted_thinking` block")
        case "tool_use" | "server_tool_use":
            _check_id(f"{path}.{block['type']}.id", block["id"])
            if not TOOL_NAME.fullmatch(block["name"]):
                raise Complaint(f"{path}.tool_use.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
            if not isinstance(block.get("input"), Mapping):
                raise Complaint(f"{path}.tool_use.input: Input should be a valid dictionary")
        case "tool_result":
            _check_id(f"{path}.tool_result.tool_use_id", block["tool_use_id"])
            content = block.get("content") or ()
            for inner in () if isinstance(content, str) else content:
                if inner["type"] == "text":
                    _check_text(inner["text"])


def _check_text(text: str) -> None:
    if not text:
        raise Complaint("messages: text content blocks must be non-empty")
    if not text.strip():
        raise Complaint("messages: text content blocks must contain non-whitespace text")


def _check_id(path: str, tool_id: str) -> None:
    if not TOOL_ID.fullmatch(tool_id):
        raise Complaint(f"{path}: String should match pattern '^[a-zA-Z0-9_-]+$'")


def _check_pairs(turns: Sequence[tuple[str, Blocks]]) -> None:
    """Every use is answered at the head of the user's next turn, and every result there answers one of those."""
    joined: list[tuple[str, list[Mapping[str, Any]]]] = []
    for role, blocks in turns:  # turns of one role in a row are one
        if joined and joined[-1][0] == role:
            joined[-1][1].extend(blocks)
        else:
            joined.append((role, list(blocks)))
    known: set[str] = set()
    uses: list[str] = []
    for place, (role, blocks) in enumerate([*joined, ("end", [])]):
        head = [block["tool_use_id"] for block in _head(blocks)]
        if missing := [use for use in uses if use not in head]:
            raise Complaint(
                f"messages.{place - 1}: `tool_use` ids were found without `tool_result` blocks immediately after: "
                f"{', '.join(missing)}. Each `tool_use` block must have a corresponding `tool_result` block "
                "in the next message."
            )
        for number, block in enumerate(blocks):
            if block["type"] == "tool_result" and block["tool_use_id"] not in uses:
                raise Complaint(
                    f"messages.{place}.content.{number}: unexpected `tool_use_id` found in `tool_result` blocks: "
                    f"{block['tool_use_id']}. Each `tool_result` block must have a corresponding `tool_use` block "
                    "in the previous message."
                )
        if len(set(head)) < len(head):
            raise Complaint(
                f"messages.{place}: each tool_use must have a single result. Found multiple `tool_result` blocks"
            )
        uses = [block["id"] for block in blocks if block["type"] == "tool_use"] if role == "assistant" else []
        if len(set(uses)) < len(uses) or known.intersection(uses):
            raise Complaint(f"messages.{place}: `tool_use` ids must be unique")
        known.update(uses)


def _head(blocks: Blocks) -> list[Mapping[str, Any]]:
    """Return the results that stand before everything else."""
    others = (place for place, block in enumerate(blocks) if block["type"] != "tool_result")
    return list(blocks[: next(others, len(blocks))])


def _check_thinking(body: Mapping[str, Any], messages: Sequence[Mapping[str, Any]], contents: Sequence[Blocks]) -> None:
    thinking = body.get("thinking") or {}
    if thinking.get("type") != "enabled":
        return
    if body["max_tokens"] <= thinking["budget_tokens"]:
        raise Complaint("`max_tokens` must be greater than `thinking.budget_tokens`.")
    last = max((place for place, message in enumerate(messages) if message["role"] == "assistant"), default=None)
    if last is None or not any(block["type"] == "tool_use" for block in contents[last]):
        return
    first = contents[last][0]["type"]
    if first not in ("thinking", "redacted_thinking"):
        raise Complaint(
            f"messages.{last}.content.0.type: Expected `thinking` or `redacted_thinking`, but found `{first}`. When "
            "`thinking` is enabled, a final `assistant` message must start with a thinking block."
        )


def _check_tools(body: Mapping[str, Any]) -> None:
    names: set[str] = set()
    for place, tool in enumerate(body.get("tools") or ()):
        if tool["name"] in names:
            raise Complaint("tools: Tool names must be unique.")
        names.add(tool["name"])
        if not TOOL_NAME.fullmatch(tool["name"]):
            raise Complaint(f"tools.{place}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
        if tool.get("type", "custom") == "custom" and tool.get("input_schema", {}).get("type") != "object":
            raise Complaint(f"tools.{place}.custom.input_schema.type: Field required")
