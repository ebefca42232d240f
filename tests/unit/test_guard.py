"""Declaring guards and their verdicts: what is refused, with what to write instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agentcore import Answer, Ask, AskAgain, Deny, Guard, Redact, Refuse, TextPart, ToolCallPart
from agentcore.exceptions import UserError

pytestmark = pytest.mark.once

CODE = "use up to 64 of a–z, 0–9 and _, beginning with a letter"
CALL = ToolCallPart("c1", "look", {})


def of_one(judged: Any) -> None: ...


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (lambda: Guard(before_model=1), r"before_model is 1: write a function of \(request, about\)"),  # type: ignore[arg-type]
        (lambda: Guard(after_answer=of_one), r"after_answer is of_one, which is not a function of \(answer, about\)"),  # type: ignore[arg-type]
        (lambda: Guard(before_tool=of_one), r"before_tool is of_one, which is not a function of \(call, about\)"),  # type: ignore[arg-type]
        (lambda: Refuse("Off topic", "No."), f"Refuse: code is 'Off topic': {CODE}"),
        (lambda: Refuse("", "No."), CODE),
        (lambda: Refuse("off_topic\n", "No."), CODE),
        (lambda: Refuse("o" * 65, "No."), CODE),
        (lambda: Refuse(7, "No."), CODE),  # type: ignore[arg-type]
        (lambda: Refuse("off_topic", " "), "Refuse: message is ' ': write a sentence"),
        (lambda: Refuse("off_topic", "No.", 7), "Refuse: detail is 7: write text"),  # type: ignore[arg-type]
        (lambda: Deny("", "closed"), "Deny: reason is '': write a sentence"),
        (lambda: Deny("No.", "CLOSED"), f"Deny: code is 'CLOSED': {CODE}"),
        (lambda: Ask(""), "Ask: reason is '': write a sentence"),
        (lambda: AskAgain("\n"), "AskAgain: feedback is .*: write a sentence"),
        (lambda: Redact(""), "Redact: text is '': write a sentence"),
        (lambda: Redact({"secret": 1}), "Redact: text is a dict: write text"),  # type: ignore[arg-type]
    ],
)
def test_a_mistake_says_what_to_write(made: Callable[[], Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        made()


def test_a_denial_has_a_code_though_none_is_given() -> None:
    assert Deny("No.").code == "denied"


@pytest.mark.parametrize(
    ("verdict", "left"),
    [
        (Redact("[removed]"), Answer((TextPart("[removed]"),))),
        (Redact("[removed]", output={"note": 1}), Answer((TextPart("[removed]"),), {"note": 1})),
        (Redact("", keep_calls=True), Answer((CALL,))),
        (Redact("", output={"note": 1}), Answer((), {"note": 1})),
    ],
)
def test_what_is_left_of_an_answer_is_what_a_redaction_gives(verdict: Redact, left: Answer) -> None:
    answer = Answer((TextPart("secret"), CALL), {"note": "secret"})
    assert answer.redacted(verdict) == left
    assert "secret" not in repr(answer.redacted(verdict))
