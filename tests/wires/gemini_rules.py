"""What Google's Gemini API refuses in a request, in the words it has for it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agentcore.testing.faults.http_model import Seen

from .wire import Complaint

PATH = re.compile(r"/v1beta/models/([^/:]+):streamGenerateContent")
NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}")
UNSIGNED = {
    "skip_thought_signature_validator",
    "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I=",
    "context_engineering_is_the_way_to_go",
}
"""What Google documents for calls that a model of another kind has made."""

Parts = Sequence[Mapping[str, Any]]
Turn = tuple[str, Parts]


def examine(seen: Seen, sealed: Callable[[str], bool]) -> None:
    """Raise a Complaint where a request is not one that the API takes; `sealed` knows its own signatures."""
    path = PATH.fullmatch(seen.path.split("?")[0])
    if path is None or "alt=sse" not in seen.path:
        raise Complaint(f"The server of the tests speaks in streams only, not {seen.path}", 404)
    if not seen.headers.get("x-goog-api-key"):
        raise Complaint("Method doesn't allow unregistered callers (callers without established identity).", 403)
    turns: list[Turn] = [(content.get("role", "user"), content.get("parts") or ()) for content in _contents(seen.body)]
    for place, (_, parts) in enumerate(turns):
        _check_parts(f"* GenerateContentRequest.contents[{place}].parts", parts)
    _check_turns(turns)
    _check_signatures(turns, asked=path[1].startswith("gemini-3"), sealed=sealed)
    for tool in seen.body.get("tools") or ():
        for function in tool.get("functionDeclarations") or ():
            if not NAME.fullmatch(function["name"]):
                raise Complaint(
                    "* GenerateContentRequest.tools[0].function_declarations[0].name: Invalid function name. "
                    "Must start with a letter or an underscore. Must be alphameric (a-z, A-Z, 0-9), underscores (_), "
                    "dots (.), colons (:), or dashes (-), with a maximum length of 64."
                )


def _contents(body: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    contents: Sequence[Mapping[str, Any]] = body.get("contents") or ()
    if not contents:
        raise Complaint("* GenerateContentRequest.contents: contents is not specified")
    return contents


def _check_parts(path: str, parts: Parts) -> None:
    if not parts:
        raise Complaint(f"{path}: contents.parts must not be empty.")
    for number, part in enumerate(parts):
        if "functionResponse" in part and not part["functionResponse"].get("name"):
            raise Complaint(f"{path}[{number}].function_response.name: Name cannot be empty.")


def _count(parts: Parts, kind: str) -> int:
    return sum(kind in part for part in parts)


def _check_turns(turns: Sequence[Turn]) -> None:
    """Calls follow the user, responses follow calls, and there are as many of the one as of the other."""
    joined: list[tuple[str, list[Mapping[str, Any]]]] = []
    for role, parts in turns:  # turns of one role in a row are one
        if joined and joined[-1][0] == role:
            joined[-1][1].extend(parts)
        else:
            joined.append((role, list(parts)))
    waiting = 0
    for place, (_, parts) in enumerate([*joined, ("end", [])]):
        calls, responses = _count(parts, "functionCall"), _count(parts, "functionResponse")
        if responses and not waiting:
            raise Complaint("Please ensure that function response turn comes immediately after a function call turn.")
        if responses != waiting:
            raise Complaint(
                "Please ensure that the number of function response parts is equal to the number of function call "
                "parts of the function call turn."
            )
        if calls and place == 0:
            raise Complaint(
                "Please ensure that function call turn comes immediately after a user turn or after a function "
                "response turn."
            )
        waiting = calls


def _check_signatures(turns: Sequence[Turn], *, asked: bool, sealed: Callable[[str], bool]) -> None:
    """The first call of each step of the current turn has its signature, and no signature is another server's."""
    spoken = (place for place, (role, parts) in enumerate(turns) if role == "user" and _count(parts, "text"))
    current = max(spoken, default=0)
    for place, (_, parts) in enumerate(turns):
        for part in parts:
            seal = part.get("thoughtSignature")
            if seal is not None and seal not in UNSIGNED and not sealed(seal):
                raise Complaint("Corrupted thought signature.")
        call = next((part for part in parts if "functionCall" in part), None)
        if asked and place > current and call is not None and not call.get("thoughtSignature"):
            raise Complaint(
                "Function call is missing a thought_signature in functionCall parts. This is required for tools to "
                "work correctly, and missing thought_signature may lead to degraded model performance. "
                f"Additional data, function call `default_api:{call['functionCall']['name']}` , position {place + 1}."
            )
