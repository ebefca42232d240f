"""Servers on this machine that speak the APIs of the providers, for the tests of what drives them.

    from tests.wires import WIRES, Fault, FunctionCall

    wire = WIRES["anthropic"]
    with wire.serve(wire.thinks("Hm", "s1", FunctionCall("look", {"n": 1})), wire.says("Good ", "day.")) as server:
        ...  # an SDK with wire.base(server) as its base URL, wire.model as its model and wire.key as its key
        server.requests[1].body  # what arrived; wire.seal("s1") is in it

A test says what the model does, and a wire how that looks on the line, so one test runs on all wires:

- `says(*texts)`, `thinks(text, signature, *then)`, `asks(*calls)`, or `answer(*parts)` with any of `Text` (with
  citations), `Thought`, `FunctionCall`, `Search` (run by the provider), `Image`, `Refusal`; `finish` is why it ends
  (`None`: it breaks off politely) and `counts` are the tokens.
- `fails(fault, wait)` is the provider's own error before the stream, `breaks(fault)` its frame inside one,
  `refuses(status, body, headers)` any other error.
- `seal(signature)` is what stands on the line for a signature; a server refuses one that is not its own.
- `replies`: `cuts` (at each frame; `reply.cut(n)` at any byte of `body`), `waits` (with pings), `stays` (open, silent),
  `broken` (by a frame), `html`, `silence`; with `redirects` and `answers` of `agentcore.testing.faults.http_model`.
- `oddities`: what servers do that say they are compatible with OpenAI's chat completions.

| wire | address | thoughts | search | pictures | model's own |
|---|---|---|---|---|---|
| `chat` | `/v1/chat/completions` | `reasoning_content`, unsigned | citations | no | refusal |
| `openrouter` | the same | `reasoning_details` | citations | `images` | an error is a finish reason |
| `responses` | `/v1/responses` | items with `encrypted_content` | call, sources | generated | failed, incomplete |
| `anthropic` | `/v1/messages` | blocks, signed or redacted | call and result | no | pings, refusal |
| `gemini` | `/v1beta/models/…` | parts, signature on the next | grounding | inline | blocked prompt |

Every server refuses what the real one refuses, in its words (`*_rules.py`): a call without its result and a result
without its call; ids, names and schemas that are not allowed; empty content; a thought without its signature
(Anthropic), without what followed it (Responses) or without its content where nothing is stored; a first call of the
turn without a signature (Gemini 3); no key; a wrong address; a request that asks for no stream.
"""

from __future__ import annotations

from .anthropic import ANTHROPIC
from .chat import CHAT, OPENROUTER
from .gemini import GEMINI
from .parts import Citation, Counts, Fault, Finish, FunctionCall, Image, Part, Refusal, Search, Text, Thought
from .responses import RESPONSES
from .wire import Complaint, Wire

__all__ = [
    "WIRES",
    "Citation",
    "Complaint",
    "Counts",
    "Fault",
    "Finish",
    "FunctionCall",
    "Image",
    "Part",
    "Refusal",
    "Search",
    "Text",
    "Thought",
    "Wire",
]

WIRES: dict[str, Wire] = {wire.name: wire for wire in (CHAT, OPENROUTER, RESPONSES, ANTHROPIC, GEMINI)}
