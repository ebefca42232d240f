"""What the offline model says: sentences made of results, never of wishes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agentcore import ContextBlock

from .reading import FILE, KNOWLEDGE, Call, Reading, sentences

MAX_QUOTE = 240
NEGATIVE = re.compile(
    r"\b(?:angry|annoy\w*|awful|bad|broken|damaged|disappoint\w*|late|never|terrible|unaccept\w*)\b", re.I
)
POSITIVE = re.compile(r"\b(?:thank\w*|thanks|great|perfect|lovely|happy)\b", re.I)
URGENT = re.compile(r"\b(?:urgent\w*|asap|immediately|today|tomorrow|right now)\b|!!", re.I)
CATEGORIES = (
    ("damage", re.compile(r"\b(?:broke\w*|damaged?|defect\w*|crack\w*|scratch\w*)\b", re.I)),
    ("delivery", re.compile(r"\b(?:late|parcel|package|deliver\w*|shipp\w*|tracking|arriv\w*|where)\b", re.I)),
    ("invoice", re.compile(r"\b(?:invoices?|receipts?|vat|bill)\b", re.I)),
)
# How a denial reaches the model: who, and then why. The customer is told why.
DENIED_BY = re.compile(r"Denied by .+?\.(?: Reason: (?P<reason>.*))?", re.S)
# What became of the latest refund call, as the triage calls it.
REFUND_STATES = {
    "succeeded": "made",
    "denied": "denied",
    "failed": "failed",
    "canceled": "stopped",
    "effect_unverified": "unverified",
}


@dataclass(frozen=True)
class Reply:
    """The final answer: its text, the articles it rests on, and the triage that says the same."""

    text: str
    sources: tuple[ContextBlock, ...]
    triage: dict[str, Any]


def money(cents: int, currency: Any) -> str:
    """Return an amount as people write it."""
    return f"{cents / 100:.2f} {currency or 'EUR'}"


def quoted(text: str) -> str:
    """Return somebody else's words in quotation marks that they cannot close."""
    return "“" + re.sub('[“”„‟"]', "'", " ".join(text.split())) + "”"


def compose(reading: Reading) -> Reply:
    """Return the final answer to a message whose tools have all answered."""
    if reading.only_thanks and not reading.orders() and not reading.attached:
        return Reply("You are welcome. Write again if there is anything else.", (), _triage(reading))
    paragraphs = [paragraph for order in reading.orders() for paragraph in _about(reading, order)]
    if reading.wants_refund and reading.asked.problem and any(_could_ask(reading, order) for order in reading.orders()):
        paragraphs.append(f"I have not asked for a refund yet. {reading.asked.problem}")
    paragraphs += _files(reading)
    article = _article(reading)
    if article:
        paragraphs.append(article[0])
    if not reading.orders():
        paragraphs.append(
            "Which order is it about? Please send me its number (it looks like A-1001), and I will look it up."
            if reading.wants_refund or not (article or reading.attached)
            else "If this is about one of your orders, send me its number (it looks like A-1001)."
        )
    text = "\n\n".join(["Thank you for your message.", *paragraphs])
    return Reply(text, (article[1],) if article else (), _triage(reading))


def _could_ask(reading: Reading, order: str) -> bool:
    lookup = reading.lookup(order)
    return bool(lookup and lookup.value.get("refundable") and not any(reading.refunds(order)))


def _about(reading: Reading, order: str) -> list[str]:
    lookup = reading.lookup(order)
    now, before = reading.refunds(order)
    if lookup is None or lookup.status != "succeeded":
        # A tool's error is written for the model, so its words are not the customer's to read.
        return [f"I could not find order {order} among your orders. Please check the number."]
    if now:
        return [_describe(lookup.value), *(_outcome(call) for call in now)]
    return [_describe(lookup.value), *_earlier(reading, before, lookup.value)]


def _describe(order: Mapping[str, Any]) -> str:
    where = {
        "delivered": f"was delivered on {order.get('delivered_on')}",
        "shipped": f"was shipped on {order.get('shipped_on')} and has not been delivered yet",
    }.get(str(order.get("status")), "is being prepared and has not been shipped yet")
    total = money(int(order.get("total_cents", 0)), order.get("currency"))
    return f"Order {order.get('order')} ({order.get('item')}, {total}) {where}."


def _outcome(call: Call) -> str:
    """Say what became of a refund: from its result alone."""
    order = call.order
    asked = money(int(call.arguments.get("amount_cents", 0)), call.arguments.get("currency"))
    if call.status == "succeeded":
        paid = money(int(call.value.get("amount_cents", 0)), call.value.get("currency"))
        return (
            f"The refund of {paid} for order {order} was approved by our support team and has been made. "
            "It goes back to your original means of payment."
        )
    if call.status == "denied":
        error = call.result.error.strip() if call.result else ""
        told = DENIED_BY.fullmatch(error)
        reason = (told["reason"] or "") if told else error
        reason = f"The reason given: {quoted(reason)}" if reason else "No reason was given."
        return f"The refund of {asked} for order {order} was not approved, so no refund was made. {reason}"
    if call.status == "effect_unverified":
        return (
            f"It is not certain yet whether the refund of {asked} for order {order} was made. A colleague is checking."
        )
    if call.status == "canceled":
        return f"The refund of {asked} for order {order} was stopped before it was made."
    return (
        f"The refund of {asked} for order {order} could not be made, so nothing was paid back. "
        "Please check the amount, or write again later."
    )


def _earlier(reading: Reading, before: list[Call], order: Mapping[str, Any]) -> list[str]:
    """Say what earlier messages of the conversation, or the shop's books, know of refunds for an order."""
    if before and (reading.mentions_refund or reading.wants_refund):
        said = "This was settled earlier in our conversation. " + _outcome(before[-1])
        if before[-1].status == "denied":
            said += " If you would like it to be reviewed again, please tell me why."
        return [said]
    if reading.wants_refund and not order.get("refundable"):
        return [f"I cannot ask for a refund of this order. {order.get('why_not') or ''}".strip()]
    if order.get("refunded_cents"):
        paid = money(int(order["refunded_cents"]), order.get("currency"))
        return [f"So far {paid} of it has been refunded."]
    return []


def _files(reading: Reading) -> list[str]:
    said = []
    for name in reading.attached:
        block = next((block for block in reading.files if block.name == FILE + name), None)
        if block is None or not block.metadata.get("readable", True):
            said.append(f"I have received {quoted(name)}, but could not read any text in it.")
        else:
            said.append(f"In {quoted(name)} I read: {quoted(_best(block.text, reading.prompt))}")
    return said


def _article(reading: Reading) -> tuple[str, ContextBlock] | None:
    """Quote the article that the search ranked first, where it shares a word with the message."""
    for block in reading.knowledge[:1]:
        title = block.name.removeprefix(KNOWLEDGE)
        return f"Our article {quoted(title)} says: {quoted(_best(block.text, reading.prompt))}", block
    return None


def _best(text: str, question: str) -> str:
    """Return the sentence of `text` that shares most with the question, shortened."""
    asked = _stems(question)
    best = max(sentences(text) or [text.strip()], key=lambda sentence: len(asked & _stems(sentence)))
    return best if len(best) <= MAX_QUOTE else best[: MAX_QUOTE - 1].rstrip() + "…"


def _stems(text: str) -> set[str]:
    return {word[:6] for word in re.findall(r"\w{3,}", text.lower())}


def _triage(reading: Reading) -> dict[str, Any]:
    calls = [call for order in reading.orders() for half in reading.refunds(order) for call in half]
    current = [call for call in calls if call in reading.now] or calls
    states = [REFUND_STATES.get(call.status, "none") for call in current]
    # Of several refunds the one that was not made is the one to look at.
    refund = next((state for state in states if state != "made"), states[0] if states else "none")
    prompt = reading.prompt
    category = (
        "refund" if reading.mentions_refund else next((n for n, words in CATEGORIES if words.search(prompt)), "other")
    )
    about = f" about {', '.join(reading.orders())}" if reading.orders() else ""
    short = " ".join(prompt.split())
    short = short if len(short) <= 120 else short[:119] + "…"
    return {
        "category": category,
        "urgency": "high" if URGENT.search(prompt) else "low" if POSITIVE.search(prompt) else "normal",
        "sentiment": "negative" if NEGATIVE.search(prompt) else "positive" if POSITIVE.search(prompt) else "neutral",
        "summary": f"The customer wrote{about}: {quoted(short)}" + ("" if refund == "none" else f" Refund: {refund}."),
        "refund": refund,
    }
