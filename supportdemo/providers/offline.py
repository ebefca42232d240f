"""A model without a provider: it reads what it is given and answers by rules. Labelled as such on the page."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncGenerator, Mapping
from dataclasses import asdict, dataclass
from typing import Any
from uuid import uuid4

from agentcore import Usage
from agentcore.providers import (
    CallRequested,
    ModelEvent,
    ModelRequest,
    OutputDelta,
    OutputProduced,
    SourceFound,
    StepFinished,
    TextDelta,
    UsageReported,
)

from .reading import KNOWLEDGE, Call, Reading, read
from .reply import compose, money

PIECES = re.compile(r"\s*\S+\s*")
CHARACTERS_PER_TOKEN = 4
# After any of these the same refund is never asked for again in a thread; after a denial only on request.
SETTLED = frozenset({"succeeded", "effect_unverified"})


@dataclass(frozen=True)
class Request:
    """A tool call the model is about to make, and what it says meanwhile."""

    name: str
    arguments: dict[str, Any]
    saying: str


class OfflineModel:
    """Reads the conversation, the context blocks and the tool results; never invents one."""

    name = "offline"
    provider = "supportdemo"

    def __init__(self, delay: float | None = None) -> None:
        """Pause `delay` seconds after each word (default: `DEMO_MODEL_DELAY`, or 0.03)."""
        self._delay = delay

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """Yield the calls the message needs, or else the answer with its triage."""
        reading = read(request)
        calls = next_calls(reading, {tool.name for tool in request.tools})
        if calls:
            said = " ".join(call.saying for call in calls)
            async for delta in self._speak(said):
                yield delta
            for call in calls:
                yield CallRequested(f"call_{uuid4().hex[:16]}", call.name, call.arguments)
            yield UsageReported(_usage(request, said + json.dumps([call.arguments for call in calls])))
            yield StepFinished("tool_calls")
            return
        reply = compose(reading)
        if request.feedback:
            # The reply was given in the step before; only its record is asked for again.
            yield OutputProduced(reply.triage)
            yield StepFinished("stop")
            return
        for block in reply.sources:
            article = block.metadata.get("article")
            yield SourceFound(block.name.removeprefix(KNOWLEDGE), document=f"article:{article}" if article else None)
        async for delta in self._speak(reply.text):
            yield delta
        written = reply.text
        if request.output_schema is not None:
            triage = json.dumps(reply.triage, ensure_ascii=False)
            written += triage
            for piece in PIECES.findall(triage):
                yield OutputDelta(piece)
            yield OutputProduced(reply.triage)
        yield UsageReported(_usage(request, written))
        yield StepFinished("stop")

    async def _speak(self, text: str) -> AsyncGenerator[TextDelta, None]:
        delay = float(os.environ.get("DEMO_MODEL_DELAY", "0.03")) if self._delay is None else self._delay
        for piece in PIECES.findall(text):
            yield TextDelta(piece)
            if delay:
                await asyncio.sleep(delay)


def next_calls(reading: Reading, tools: set[str]) -> list[Request]:
    """Return the tool calls this message still needs; none means that everything is known."""
    orders = reading.orders()
    if "lookup_order" in tools:
        missing = [order for order in orders if reading.lookup(order) is None]
        if missing:
            return [Request("lookup_order", {"number": order}, f"I am looking up order {order}.") for order in missing]
    if "issue_refund" not in tools or not reading.wants_refund:
        return []
    requests = (_refund(reading, order, only=len(orders) == 1) for order in orders)
    return [request for request in requests if request]


def _refund(reading: Reading, order: str, *, only: bool) -> Request | None:
    """Return the refund to ask for: at most once a message, never twice for money already on its way."""
    lookup = reading.lookup(order)
    now, before = reading.refunds(order)
    found = lookup.value if lookup else {}
    if now or not found.get("refundable") or not _may_ask(before, reading.insists) or reading.asked.problem:
        return None
    amount = _amount(reading, found, only)
    if amount <= 0:
        return None
    said = " ".join(reading.prompt.split())
    return Request(
        "issue_refund",
        {"order": order, "amount_cents": amount, "reason": f"The customer wrote: {said}"[:300]},
        f"Order {order} can be refunded. I am asking our support team to approve "
        f"{money(amount, found.get('currency'))}.",
    )


def _may_ask(before: list[Call], insists: bool) -> bool:
    if any(call.status in SETTLED for call in before):
        return False
    return insists or not any(call.status == "denied" for call in before)


def _amount(reading: Reading, order: Mapping[str, Any], only: bool) -> int:
    left = int(order.get("refundable_cents", 0))
    if only and reading.asked.cents is not None:
        return min(reading.asked.cents, left)
    return left // 2 if only and re.search(r"\bhalf\b", reading.prompt, re.I) else left


def _usage(request: ModelRequest, written: str) -> Usage:
    """Estimate the tokens of a call from its characters."""
    read_text = request.instructions + "".join(block.text for block in request.context)
    read_text += "".join(
        json.dumps(asdict(part), default=str) for message in request.messages for part in message.parts
    )
    read_tokens = len(read_text) // CHARACTERS_PER_TOKEN + 1
    written_tokens = len(written) // CHARACTERS_PER_TOKEN + 1
    return Usage(read_tokens, written_tokens, read_tokens + written_tokens)
