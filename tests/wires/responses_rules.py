"""What OpenAI's responses API refuses in a request, in the words it has for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agentcore.testing.faults.http_model import Seen

from .chat_rules import check_door, check_name
from .schemas import check_strict
from .wire import Complaint

NEEDS = "_needs_"
"""Stands in the id of an item that was given after a thought, before the id of the thought."""

PREFIXES = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "web_search_call": "ws",
    "image_generation_call": "ig",
}
ID_LENGTH = 64

Items = Sequence[Mapping[str, Any]]


def examine(seen: Seen, sealed: Callable[[str], bool]) -> None:
    """Raise a Complaint where a request is not one that the API takes; `sealed` knows its own signatures."""
    check_door(seen, "/responses")
    body = seen.body
    remembers = body.get("previous_response_id") or body.get("conversation")
    given: Any = body.get("input")
    items: Items = [{"role": "user", "content": given}] if isinstance(given, str) else given or []
    if not items and not remembers:
        raise Complaint("Missing required parameter: 'input'.", code="missing_required_parameter")
    _check_ids(items)
    _check_reasoning(items, stored=body.get("store") is not False, sealed=sealed)
    if not remembers:
        _check_pairs(items)
    for place, tool in enumerate(body.get("tools") or ()):
        if tool["type"] == "function":
            check_name(f"tools[{place}].name", tool["name"])
            if tool.get("strict"):
                check_strict(tool["name"], tool["parameters"])
    form = (body.get("text") or {}).get("format") or {}
    if form.get("type") == "json_schema":
        check_name("text.format.name", form.get("name", ""))
        if form.get("strict"):
            check_strict(form["name"], form["schema"])


def _check_ids(items: Items) -> None:
    known: set[str] = set()
    for place, item in enumerate(items):
        item_id, prefix = item.get("id"), PREFIXES.get(item.get("type", "message"))
        if item_id is None:
            continue
        if prefix is not None and not item_id.startswith(prefix):
            raise Complaint(f"Invalid 'input[{place}].id': '{item_id}'. Expected an ID that begins with '{prefix}'.")
        if len(item_id) > ID_LENGTH:
            raise Complaint(f"Invalid 'input[{place}].id': string too long. Expected a string with maximum length 64.")
        if item_id in known:
            raise Complaint(
                f"Duplicate item found with id {item_id}. Remove duplicate items from your input and try again."
            )
        known.add(item_id)


def _check_reasoning(items: Items, *, stored: bool, sealed: Callable[[str], bool]) -> None:
    """A thought keeps the item that followed it, and that item its thought; what is not stored is sent whole."""
    for place, item in enumerate(items):
        item_id, following = str(item.get("id") or ""), items[place + 1] if place + 1 < len(items) else {}
        if item.get("type") == "reasoning":
            seal = item.get("encrypted_content")
            if not stored and not seal:
                raise Complaint(
                    f"Item with id '{item_id}' not found. Items are not persisted when `store` is set to false. "
                    "Try again with `store` set to true, or remove this item from your input.",
                    404,
                )
            if seal and not sealed(seal):
                raise Complaint(
                    f"The encrypted content for item {item_id} could not be verified.", code="invalid_encrypted_content"
                )
            if not following or following.get("role", "assistant") != "assistant" or _answers(following):
                raise Complaint(
                    f"Item '{item_id}' of type 'reasoning' was provided without its required following item."
                )
        needed = item_id.partition(NEEDS)[2]
        before = items[place - 1] if place else {}
        if needed and before.get("id") != needed:
            kind = item.get("type", "message")
            raise Complaint(
                f"Item '{item_id}' of type '{kind}' was provided without its required 'reasoning' item: '{needed}'."
            )


def _answers(item: Mapping[str, Any]) -> bool:
    return item.get("type") == "function_call_output"


def _check_pairs(items: Items) -> None:
    """Every call has its output, and every output its call, before it."""
    called: list[str] = []
    for place, item in enumerate(items):
        if item.get("type") == "function_call":
            check_name(f"input[{place}].name", item["name"])
            if not isinstance(item.get("arguments"), str):
                raise Complaint(f"Invalid type for 'input[{place}].arguments': expected a string.")
            called.append(item["call_id"])
        if _answers(item):
            if item["call_id"] not in called:
                raise Complaint(f"No tool call found for function call output with call_id {item['call_id']}.")
            called.remove(item["call_id"])
    if called:
        raise Complaint(f"No tool output found for function call {called[0]}.")
