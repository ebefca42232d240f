"""What servers do that say they are compatible with OpenAI's chat completions, by public reports.

Each is a reply under a name that says what is odd about it. All `ANSWERS` say "Good day.";
all `CALLS` ask for `look` with `{"n": 1}`, or for what their name says; `ERRORS` are
frames that tell of an error inside a stream.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agentcore.testing.faults.http_model import Reply
from agentcore.testing.faults.wire import DONE, chunk, end, sse, usage

from .replies import waits

TEXT = "Good day."
NAME, ARGUMENTS = "look", '{"n": 1}'
STOP = sse(chunk({}, "stop"))


def _says(*chunks: Mapping[str, Any], after: Sequence[bytes] | None = None) -> Reply:
    """Return a stream of these chunks, with an ordinary end unless another is given."""
    return Reply([*(sse(one) for one in chunks), *(end("stop") if after is None else after)])


def _choices(choices: Any) -> dict[str, Any]:
    return {**chunk({}), "choices": choices}


def _counted(text: str, completion: int) -> dict[str, Any]:
    return {**chunk({"content": text}), "usage": usage(10, completion)["usage"]}


SAID = chunk({"content": TEXT})
LISTED = [{"type": "text", "text": "Good "}, {"type": "text", "text": "day."}]
DELTA_NULL = {"index": 0, "delta": None, "finish_reason": None}
PLAIN_COUNTS = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}

ANSWERS: dict[str, Reply] = {
    "counts in every chunk, each of all so far": _says(_counted("Good ", 2), _counted("day.", 5), after=[STOP, DONE]),
    "counts null": _says({**SAID, "usage": None}, after=[STOP, DONE]),
    "counts without details": _says({**SAID, "usage": PLAIN_COUNTS}, after=[STOP, DONE]),
    "no counts": _says(SAID, after=[STOP, DONE]),
    "choices null": _says(_choices(None), SAID),
    "choices empty at first": _says(_choices([]), SAID),
    "delta null": _says(_choices([DELTA_NULL]), SAID),
    "content null": _says(chunk({"role": "assistant", "content": None}), SAID),
    "content as a list": _says(chunk({"content": LISTED})),
    "empty first chunks": _says(*[chunk({"role": "assistant", "content": ""})] * 3, SAID),
    "tool calls null": _says(chunk({"content": TEXT, "tool_calls": None})),
    "tool calls empty": _says(chunk({"content": TEXT, "tool_calls": []})),
    "no id, no model, no time": _says({"object": "chat.completion.chunk", "choices": SAID["choices"]}),
    "time as a text": _says({**SAID, "created": "1"}),
    "error null in every chunk": _says({**SAID, "error": None}),
    "reason with the text": _says(chunk({"content": TEXT}, "stop"), after=[DONE]),
    "reason empty, then given": _says(chunk({"content": TEXT}, "")),
    "reason unknown": _says(SAID, after=[sse(chunk({}, "eos_token")), DONE]),
    "reason twice": _says(SAID, after=[STOP, *end("stop")]),
    "text after the reason": _says(chunk({"content": "Good "}, "stop"), chunk({"content": "day."})),
    "no reason": _says(SAID, after=[DONE]),
    "no reason and no last word": _says(SAID, after=[]),
    "no last word": _says(SAID, after=[STOP]),
    "broken off after the reason": Reply([sse(SAID), STOP], whole=False),
    "broken off after the last word": Reply([sse(SAID), *end("stop")], whole=False),
    "comments between": Reply([b": keep-alive\n\n", sse(SAID), b":\n\n", *end("stop")]),
    "lines end with CRLF": Reply([sse(SAID).replace(b"\n", b"\r\n"), *end("stop")]),
    "no space after the colon": Reply([sse(SAID).replace(b"data: ", b"data:"), *end("stop")]),
    "events have names": Reply([b"event: message\n" + sse(SAID), *end("stop")]),
    "reasoning in reasoning_content": _says(chunk({"reasoning_content": "Hm"}), SAID),
    "reasoning in reasoning": _says(chunk({"reasoning": "Hm"}), SAID),
    "reasoning in both": _says(chunk({"reasoning": "Hm", "reasoning_content": "Hm"}), SAID),
    "reasoning in tags": _says(
        chunk({"content": "<think>"}), chunk({"content": "Hm"}), chunk({"content": "</think>"}), SAID
    ),
    "reasoning as an object": _says(chunk({"reasoning": {"text": "Hm"}}), SAID),
}


def _asks(*calls: Mapping[str, Any] | Sequence[Mapping[str, Any]], finish: str = "tool_calls") -> Reply:
    """Return a stream with a chunk for each call or piece of a call, or for a list of them."""
    together = [[one] if isinstance(one, Mapping) else list(one) for one in calls]
    return _says(*(chunk({"tool_calls": some}) for some in together), after=end(finish))


def _call(arguments: Any = ARGUMENTS, name: Any = NAME, **members: Any) -> dict[str, Any]:
    """Return a call, or the first piece of one."""
    function = {"name": name, "arguments": arguments}
    return {"index": 0, "id": "call_1", "type": "function", "function": function, **members}


def _piece(arguments: str, **members: Any) -> dict[str, Any]:
    """Return a later piece of a call."""
    return {"index": 0, "function": {"arguments": arguments}, **members}


def _unplaced(call: Mapping[str, Any], *left_out: str) -> dict[str, Any]:
    return {name: value for name, value in call.items() if name not in ("index", *left_out)}


WHOLE = _call()
OTHER = _call('{"n": 2}', id="call_2")

CALLS: dict[str, Reply] = {
    "no index": _asks(_unplaced(WHOLE)),
    "no index in pieces": _asks(_unplaced(_call('{"n"')), _unplaced(_piece(": 1}"))),
    "index null": _asks({**WHOLE, "index": None}),
    "two calls without index": _asks(_unplaced(WHOLE), _unplaced(OTHER)),
    "two calls without index in one chunk": _asks([_unplaced(WHOLE), _unplaced(OTHER)]),
    "two calls without index and id": _asks(_unplaced(WHOLE, "id"), _unplaced(OTHER, "id")),
    "two calls under one index": _asks(WHOLE, OTHER),
    "two calls with one id": _asks(WHOLE, {**OTHER, "index": 1, "id": "call_1"}),
    "indexes begin at 1": _asks({**WHOLE, "index": 1}),
    "no id": _asks({name: value for name, value in WHOLE.items() if name != "id"}),
    "id empty": _asks({**WHOLE, "id": ""}),
    "id and name in every piece": _asks(_call('{"n"'), _call(": 1}")),
    "id and name null in later pieces": _asks(_call('{"n"'), _call(": 1}", name=None, id=None)),
    "id and name empty in later pieces": _asks(_call('{"n"'), _call(": 1}", name="", id="")),
    "another id in every piece": _asks(_call('{"n"'), _piece(": 1}", id="call_1b")),
    "name in two pieces": _asks(_call("", name="lo"), _call(ARGUMENTS, name="ok")),
    "name empty": _asks(_call(name="")),
    "name after the arguments": _asks(_piece('{"n"', id="call_1"), _call(": 1}")),
    "function null at first": _asks({**WHOLE, "function": None}, WHOLE),
    "arguments null": _asks(_call(None)),
    "arguments empty": _asks(_call("")),
    "arguments {}": _asks(_call("{}")),
    "arguments null as text": _asks(_call("null")),
    "arguments as an object": _asks(_call({"n": 1})),
    "arguments no JSON": _asks(_call("n=1")),
    "arguments cut off": _asks(_call('{"n"')),
    "arguments said twice": _asks(WHOLE, _piece(ARGUMENTS)),
    "an empty piece at the end": _asks(WHOLE, _piece("")),
    "reason is stop": _asks(WHOLE, finish="stop"),
    "reason with the call": _says(chunk({"tool_calls": [WHOLE]}, "tool_calls"), after=[sse(usage()), DONE]),
    "no reason": _says(chunk({"tool_calls": [WHOLE]}), after=[DONE]),
    "the old function_call": _says(
        chunk({"function_call": {"name": NAME, "arguments": ARGUMENTS}}), after=end("function_call")
    ),
}

FAILED = {"message": "The server had an error.", "type": "server_error", "code": None}
DOWN = {"message": "Provider is down.", "code": 502}

ERRORS: dict[str, bytes] = {
    "an object": sse({"error": FAILED}),
    "a text": sse({"error": "The server had an error."}),
    "with an event's name": b"event: error\n" + sse({"error": FAILED}),
    "in a chunk with a reason": sse({**chunk({}, "error"), "error": DOWN}),
    "in the choice": sse(_choices([{"index": 0, "delta": {}, "finish_reason": "error", "error": DOWN}])),
    "without the word error": sse({"object": "error", "message": "The server had an error.", "code": 500}),
    "no JSON": b"data: Internal Server Error\n\n",
    "half a chunk": b'data: {"id": "c1", "choi\n\n',
}


def keeps_alive(times: int, seconds: float) -> Reply:
    """Return an answer behind so many comments, for longer than an idle limit: they mean that the call lives."""
    return waits(_says(SAID), b": keep-alive\n\n", times, seconds)
