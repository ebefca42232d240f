"""Amounts of money as customers write them: one that is clear, or what to ask."""

from __future__ import annotations

import re
from dataclasses import dataclass

MOST_DIGITS = 9
# Everything that may belong to a number, so that a part of one is never taken for the whole.
TOKEN = r"[.,+\-−–'’]*\d[\d.,+\-−–'’]*(?:[ \u00a0\u202f]\d{3}(?!\d)){0,3}"
MONEY = re.compile(
    rf"([-−–]?)(?:€|\$|£|\b(?:EUR|USD))\s*({TOKEN})"
    rf"|(?<![\d.,+\-−–'’])({TOKEN})\s*(?:€|\$|£|(?:EUR|USD|euros?|dollars?)\b)"
    r"|(?<!\S)([-−–]\d[\d.,]*)(?!\w)",
    re.I,
)
PLAIN = re.compile(r"([0-9]+)(?:[.,]([0-9]{1,2}))?")
GROUPED = re.compile(r"([1-9][0-9]{0,2}(?:\.[0-9]{3})+),([0-9]{1,2})|([1-9][0-9]{0,2}(?:,[0-9]{3})+)\.([0-9]{1,2})")


@dataclass(frozen=True)
class Amount:
    """An amount in cents, or why there is none that may be used; neither where none was named."""

    cents: int | None = None
    problem: str = ""

    @property
    def named(self) -> bool:
        """Whether the text names an amount at all, clear or not."""
        return self.cents is not None or bool(self.problem)


def amount_in(text: str) -> Amount:
    """Return the amount a text names; several different ones are a question, not a choice."""
    found = {_cents("".join(group for group in match.groups() if group)) for match in MONEY.finditer(text)}
    if not found:
        return Amount()
    if len(found) > 1:
        return Amount(problem="You name several amounts. Which one is it, in figures such as 20.50 EUR?")
    cents = found.pop()
    if cents is None:
        return Amount(problem="I am not sure which amount you mean. Please write it in figures, such as 20.50 EUR.")
    if not cents:
        return Amount(problem="An amount of 0 cannot be refunded. Which amount is it, in figures such as 20.50 EUR?")
    return Amount(cents)


def _cents(token: str) -> int | None:
    number = token.rstrip(".,-–'’")
    if sum(char.isdigit() for char in number) > MOST_DIGITS:
        return None
    if plain := PLAIN.fullmatch(number):
        whole, rest = plain[1], plain[2]
    elif grouped := GROUPED.fullmatch(number):
        whole, rest = re.sub("[.,]", "", grouped[1] or grouped[3]), grouped[2] or grouped[4]
    else:
        return None
    return int(whole) * 100 + int((rest or "0").ljust(2, "0"))
