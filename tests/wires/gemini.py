"""Google's Gemini API: each event is a whole answer with the parts that are new, and the counts so far."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import uuid4

from agentcore.testing.faults.http_model import HttpModel, Reply, Seen

from .gemini_rules import examine
from .parts import Counts, Fault, Finish, FunctionCall, Image, Part, Refusal, Search, Text, Thought, halves
from .wire import Complaint, Wire

FINISHES = {
    Finish.STOP: "STOP",
    Finish.CALLS: "STOP",
    Finish.LENGTH: "MAX_TOKENS",
    Finish.FILTERED: "SAFETY",
    Finish.REFUSED: "PROHIBITED_CONTENT",
}
STATUSES = {400: "INVALID_ARGUMENT", 403: "PERMISSION_DENIED", 404: "NOT_FOUND"}
GOOGLE = "type.googleapis.com/google.rpc."
FREE = "GenerateRequestsPer{}PerProjectPerModel-FreeTier"


def _used_up(time: str) -> list[dict[str, Any]]:
    return [{"@type": f"{GOOGLE}QuotaFailure", "violations": [{"quotaId": FREE.format(time), "quotaValue": "10"}]}]


FAULTS: dict[Fault, tuple[int, str, str, list[dict[str, Any]]]] = {
    Fault.KEY: (
        400,
        "INVALID_ARGUMENT",
        "API key not valid. Please pass a valid API key.",
        [{"@type": f"{GOOGLE}ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"}],
    ),
    Fault.CREDITS: (400, "FAILED_PRECONDITION", "Please enable billing on your project in Google AI Studio.", []),
    Fault.FORBIDDEN: (403, "PERMISSION_DENIED", "The caller does not have permission", []),
    Fault.MODEL: (404, "NOT_FOUND", "models/test-1 is not found for API version v1beta.", []),
    Fault.LARGE: (400, "INVALID_ARGUMENT", "Request payload size exceeds the limit: 20971520 bytes.", []),
    Fault.RATE: (429, "RESOURCE_EXHAUSTED", "You exceeded your current quota.", _used_up("Minute")),
    Fault.QUOTA: (429, "RESOURCE_EXHAUSTED", "You exceeded your current quota.", _used_up("Day")),
    Fault.SERVER: (500, "INTERNAL", "An internal error has occurred.", []),
    Fault.UNAVAILABLE: (503, "UNAVAILABLE", "The service is currently unavailable.", []),
    Fault.OVERLOADED: (503, "UNAVAILABLE", "The model is overloaded. Please try again later.", []),
    Fault.CONTEXT: (
        400,
        "INVALID_ARGUMENT",
        "The input token count (1048600) exceeds the maximum number of tokens allowed (1048576).",
        [],
    ),
    Fault.INVALID: (
        400,
        "INVALID_ARGUMENT",
        "* GenerateContentRequest.generation_config.temperature: must be in the range [0.0, 2.0]",
        [],
    ),
}


class Gemini(Wire):
    """`POST /v1beta/models/…:streamGenerateContent?alt=sse`."""

    name = "gemini"
    ping = b""
    model = "gemini-3-pro-preview"

    def base(self, server: HttpModel) -> str:
        return server.address

    def seal(self, signature: str) -> str:
        return base64.b64encode(super().seal(signature).encode()).decode()

    def sealed(self, seal: str) -> bool:
        return super().sealed(base64.b64decode(seal, altchars=b"-_" if {"-", "_"} & set(seal) else None).decode())

    def speak(self, parts: Sequence[Part], finish: Finish | None, counts: Counts) -> Iterator[bytes]:
        head = {"modelVersion": self.model, "responseId": uuid4().hex[:8]}
        refusal = next((part for part in parts if isinstance(part, Refusal)), None)
        if refusal is not None:
            blocked = {"blockReason": "PROHIBITED_CONTENT", "blockReasonMessage": refusal.text}
            yield _frame({"promptFeedback": blocked, "usageMetadata": usage(counts, output=0), **head})
            return
        for part in self._parts(parts):
            candidate = {"content": {"parts": [part], "role": "model"}, "index": 0}
            yield _frame({"candidates": [candidate], "usageMetadata": usage(counts, output=1), **head})
        if finish is not None:
            ended = {
                "content": {"parts": [{"text": ""}], "role": "model"},
                "index": 0,
                "finishReason": FINISHES[finish],
            }
            if grounding := _grounding(parts):
                ended["groundingMetadata"] = grounding
            yield _frame({"candidates": [ended], "usageMetadata": usage(counts, output=counts.output), **head})

    def fails(self, fault: Fault, wait: float | None = None) -> Reply:
        error = self._error(fault)
        if wait is not None:
            error["details"].append({"@type": f"{GOOGLE}RetryInfo", "retryDelay": f"{wait:g}s"})
        return self.refuses(error["code"], {"error": error})

    def breaks(self, fault: Fault) -> bytes:
        return _frame({"error": self._error(fault)})

    def complain(self, complaint: Complaint) -> Reply:
        error = {"code": complaint.status, "message": complaint.message, "status": STATUSES[complaint.status]}
        return self.refuses(complaint.status, {"error": error})

    def examine(self, seen: Seen) -> None:
        examine(seen, self.sealed)

    def _error(self, fault: Fault) -> dict[str, Any]:
        status, name, message, details = FAULTS[fault]
        return {"code": status, "message": message, "status": name, "details": list(details)}

    def _parts(self, parts: Sequence[Part]) -> Iterator[dict[str, Any]]:
        """Yield the wire's parts; a thought's signature comes with what follows it, as the models send it."""
        seal: str | None = None
        for part in parts:
            if isinstance(part, Thought):
                seal = None if part.signature is None else self.seal(part.signature)
                yield from ({"text": half, "thought": True} for half in halves(part.text) if half)
                continue
            signed = {} if seal is None else {"thoughtSignature": seal}
            seal = None
            match part:
                case Text():
                    yield from ({"text": piece} for piece in part.pieces)
                    if signed:
                        yield {"text": "", **signed}
                case FunctionCall():
                    call = {"name": part.name, "args": json.loads(part.text)}
                    yield {"functionCall": {**call, **({"id": part.call_id} if part.call_id else {})}, **signed}
                case Image():
                    data = base64.b64encode(part.data).decode()
                    yield {"inlineData": {"mimeType": part.media_type, "data": data}, **signed}
        if seal is not None:
            yield {"text": "", "thoughtSignature": seal}


def usage(counts: Counts, output: int) -> dict[str, Any]:
    """Return the counts as Gemini has them: thoughts are not part of the candidates' tokens."""
    said = max(0, output - counts.reasoning)
    heard = [{"modality": "TEXT", "tokenCount": counts.input - counts.audio_in}]
    if counts.audio_in:
        heard.append({"modality": "AUDIO", "tokenCount": counts.audio_in})
    return {
        "promptTokenCount": counts.input,
        "cachedContentTokenCount": counts.cached,
        "candidatesTokenCount": said,
        "thoughtsTokenCount": counts.reasoning,
        "totalTokenCount": counts.input + said + counts.reasoning,
        "promptTokensDetails": heard,
    }


def _grounding(parts: Sequence[Part]) -> dict[str, Any]:
    """Return the searches and what in the texts leans on them; nothing where nobody searched."""
    searches = [part for part in parts if isinstance(part, Search)]
    if not searches:
        return {}
    pages = [page for search in searches for page in search.found]
    texts = [part for part in parts if isinstance(part, Text) and part.citations]
    supports = [
        {
            "segment": {"startIndex": 0, "endIndex": len(text.whole.encode()), "text": text.whole},
            "groundingChunkIndices": [place for place, page in enumerate(pages) if page in text.citations],
        }
        for text in texts
    ]
    return {
        "webSearchQueries": [search.query for search in searches],
        "groundingChunks": [{"web": {"uri": page.url, "title": page.title}} for page in pages],
        "groundingSupports": supports,
    }


def _frame(answer: Mapping[str, Any]) -> bytes:
    return f"data: {json.dumps(answer)}\r\n\r\n".encode()


GEMINI = Gemini()
