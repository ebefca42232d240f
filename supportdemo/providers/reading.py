"""What the offline model understands of a request: the conversation, the results, the context blocks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agentcore import ContextBlock, FilePart, TextPart, ToolCallPart, ToolResultPart
from agentcore.providers import ModelMessage, ModelRequest

from .amounts import Amount, amount_in

FILE = "file: "
KNOWLEDGE = "knowledge: "
ORDER_NUMBER = re.compile(r"\b[A-Za-z]{1,2}-\d{4,6}\b")
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
REFUND_WORDS = re.compile(r"\b(?:refund\w*|reimburse\w*|(?:my|the|some) money(?: back)?|money back)\b", re.I)
NEGATED = re.compile(r"\b(?:no|not|never|without|don['’]?t|isn['’]?t)\b[^,;]{0,25}\b(?:refund|reimburse|money)", re.I)
# An order not to, however long it is.
FORBIDDEN = re.compile(
    r"\b(?:(?:please|kindly),?\s+|^\W*)(?:do\s+not|don['’]?t|never)\b[^;]{0,80}\b(?:refund|reimburse|money)", re.I
)
STATUS_QUESTION = re.compile(r"^\W*(?:where|when|what|why|how|has|have|did|do|does|was|were|is|are)\b", re.I)
LINE_BREAK = re.compile(r"(?<!\n)\r?\n(?![\r\n])")
INSISTING = re.compile(r"\b(?:again|reconsider|review|appeal|insist|still want)\b", re.I)
THANKS = re.compile(r"\b(?:thanks|thank you|cheers|great|perfect)\b", re.I)


@dataclass(frozen=True)
class Call:
    """A tool call of the conversation with its result, if it has one yet."""

    name: str
    arguments: Mapping[str, Any]
    result: ToolResultPart | None

    @property
    def order(self) -> str:
        """The order it is about, as its result or else its arguments say."""
        value = self.value.get("order") or self.arguments.get("order") or self.arguments.get("number") or ""
        return str(value).upper()

    @property
    def status(self) -> str:
        """The status of the result; empty without one."""
        return self.result.status if self.result else ""

    @property
    def value(self) -> Mapping[str, Any]:
        """The result of a call that succeeded."""
        found = self.result.result if self.result and self.result.status == "succeeded" else None
        return found if isinstance(found, Mapping) else {}


@dataclass(frozen=True)
class Reading:
    """A request, understood."""

    prompt: str
    previous_prompt: str
    attached: tuple[str, ...]
    now: tuple[Call, ...]
    before: tuple[Call, ...]
    files: tuple[ContextBlock, ...]
    knowledge: tuple[ContextBlock, ...]

    @property
    def mentions_refund(self) -> bool:
        """Whether the message speaks of a refund in any way."""
        return bool(REFUND_WORDS.search(self.prompt))

    @property
    def wants_refund(self) -> bool:
        """Whether the message asks for money back: not whether there was one, and not that there be none."""
        if _wish(self.prompt):
            return True
        # "It is A-1001." or "20 EUR" in answer to our question for the order or the amount to refund.
        if len(self.prompt.split()) > 8 or self.mentions_refund or not _wish(self.previous_prompt):
            return False
        before = _asked(self.previous_prompt)
        if _orders(self.prompt) and (not _orders(self.previous_prompt) or before.problem):
            return True
        return bool(before.problem) and _asked(self.prompt).named

    @property
    def insists(self) -> bool:
        """Whether the message asks to decide something again."""
        return bool(INSISTING.search(self.prompt))

    @property
    def only_thanks(self) -> bool:
        """Whether the message wants nothing more."""
        return bool(THANKS.search(self.prompt)) and len(self.prompt.split()) <= 8 and "?" not in self.prompt

    @property
    def asked(self) -> Amount:
        """The amount the message names, or the one that it completes by an order's number."""
        here = _asked(self.prompt)
        if here.named or _wish(self.prompt) or not self.wants_refund:
            return here
        before = _amount(self.previous_prompt)
        return _for_one(before, self.orders())

    def orders(self) -> tuple[str, ...]:
        """The orders this message is about: named in it, in a file sent with it, or the one spoken of last."""
        if named := _orders(self.prompt):
            return named
        for block in self.files:
            if block.name.removeprefix(FILE) in self.attached and (named := _orders(block.text)):
                return named
        if self.only_thanks:
            return ()
        spoken_of = [call.order for call in self.before if call.order]
        return tuple(spoken_of[-1:])

    def refunds(self, order: str) -> tuple[list[Call], list[Call]]:
        """Return the refund calls for an order: of this answer, and of earlier ones."""
        return _refunds(self.now, order), _refunds(self.before, order)

    def lookup(self, order: str) -> Call | None:
        """Return this answer's look at an order: a fresh one, since an earlier one may be out of date."""
        asked = (call for call in self.now if call.name == "lookup_order")
        return next((call for call in asked if order in {call.order, str(call.arguments.get("number")).upper()}), None)


def read(request: ModelRequest) -> Reading:
    """Understand a request; text in files and articles is only ever quoted, never obeyed."""
    messages = request.messages
    prompts = [index for index, message in enumerate(messages) if message.author == "user"]
    start = prompts[-1] if prompts else -1
    prompt = messages[start] if prompts else None
    previous = messages[prompts[-2]] if len(prompts) > 1 else None
    return Reading(
        prompt=_text(prompt),
        previous_prompt=_text(previous),
        attached=tuple(part.filename for part in prompt.parts if isinstance(part, FilePart)) if prompt else (),
        now=_calls(messages[start + 1 :]),
        before=_calls(messages[: max(start, 0)]),
        files=tuple(block for block in request.context if block.name.startswith(FILE)),
        knowledge=tuple(block for block in request.context if block.name.startswith(KNOWLEDGE)),
    )


def sentences(text: str) -> list[str]:
    """Return the sentences of a text, each with its end mark."""
    found = (" ".join(sentence.split()) for sentence in SENTENCE_END.split(text))
    return [sentence for sentence in found if sentence]


def _asked(text: str) -> Amount:
    return _for_one(_amount(text), _orders(text))


def _amount(text: str) -> Amount:
    return amount_in(ORDER_NUMBER.sub(";", text))


def _for_one(amount: Amount, orders: tuple[str, ...]) -> Amount:
    if amount.cents is not None and len(orders) > 1:
        return Amount(problem=f"Which of the orders is the amount for: {' or '.join(orders)}?")
    return amount


def _wish(text: str) -> bool:
    # A single line break does not end a sentence: "Do not" and "refund A-1001" on two lines are one.
    text = LINE_BREAK.sub(" ", text)
    return any(
        REFUND_WORDS.search(sentence)
        and not NEGATED.search(sentence)
        and not FORBIDDEN.search(sentence)
        and not (sentence.endswith("?") and STATUS_QUESTION.search(sentence))
        for sentence in sentences(text)
    )


def _orders(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(number.upper() for number in ORDER_NUMBER.findall(text)))[:3]


def _refunds(calls: tuple[Call, ...], order: str) -> list[Call]:
    return [call for call in calls if call.name == "issue_refund" and call.order == order]


def _text(message: ModelMessage | None) -> str:
    parts = message.parts if message else ()
    return "\n\n".join(part.text for part in parts if isinstance(part, TextPart))


def _calls(messages: tuple[ModelMessage, ...]) -> tuple[Call, ...]:
    parts = [part for message in messages for part in message.parts]
    results = {part.call_id: part for part in parts if isinstance(part, ToolResultPart)}
    return tuple(
        Call(part.name, part.arguments, results.get(part.call_id)) for part in parts if isinstance(part, ToolCallPart)
    )
