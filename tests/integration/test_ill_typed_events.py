"""What a model's adapter sends may be of any type: its run ends, and what it said is kept where it can be."""

from __future__ import annotations

from collections import OrderedDict
from datetime import date
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest
from pydantic import RootModel

from agentcore import tool
from agentcore.engine.steps import answer
from agentcore.exceptions import ModelError
from agentcore.models import Message
from agentcore.providers import (
    CallRequested,
    DataFound,
    OutputDelta,
    OutputProduced,
    ReasoningDelta,
    SourceFound,
    StepFinished,
    TextDelta,
)
from tests.integration.room import make
from tests.integration.test_model_answers import Says

pytestmark = [pytest.mark.once, pytest.mark.django_db]


@pytest.mark.parametrize(
    ("source", "title"),
    [
        (SourceFound(None, "http://x"), "http://x"),
        (SourceFound(None, None, "a.pdf"), "a.pdf"),
        (SourceFound(None), ""),
    ],
)
def test_a_source_without_a_title_goes_by_its_address(source: SourceFound, title: str) -> None:
    run = make(Says([TextDelta("a"), source, StepFinished("stop")])).play()
    assert run.status == "succeeded"
    assert run.messages.get(author_kind="agent").parts[1].title == title


ILL_TYPED: list[Any] = [
    SourceFound(5, "http://x"),  # type: ignore[arg-type]
    SourceFound("x", 5),  # type: ignore[arg-type]
    SourceFound("x", "http://x", b"a.pdf"),  # type: ignore[arg-type]
    CallRequested("1", None, {}),  # type: ignore[arg-type]
    CallRequested("1", 5, {}),  # type: ignore[arg-type]
    DataFound(None, 1),  # type: ignore[arg-type]
    DataFound({"a": 1}, 1),  # type: ignore[arg-type]
    TextDelta(5),  # type: ignore[arg-type]
    ReasoningDelta(None),  # type: ignore[arg-type]
    OutputDelta(b"{}"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("event", ILL_TYPED, ids=repr)
def test_an_ill_typed_event_fails_its_run_at_once_and_keeps_what_was_said(event: Any) -> None:
    room = make(Says([TextDelta("a"), event, StepFinished("stop")]))
    run = room.play()
    assert (run.status, run.error_code, len(room.model.requests)) == ("failed", "provider_error", 1)
    assert type(event).__name__ in run.error_detail
    assert run.messages.get(author_kind="agent").text == "a"


NO_JSON: dict[str, Any] = {
    "a decimal": {"value": Decimal("0.1")},
    "a set": {"value": {1}},
    "bytes": {"value": b"x"},
    "a date in a list": {"value": [date(2026, 1, 2)]},
    "a number as a key": {"value": {1: "x"}},
    "beside what the model has to mend": {"value": "a\x00b", "other": Decimal(1)},
    "bytes for all": b"{}",
}


@pytest.mark.covers("fc:A2")
@pytest.mark.parametrize("arguments", NO_JSON.values(), ids=NO_JSON)
def test_arguments_that_no_model_can_have_sent_fail_the_run_and_not_the_call(arguments: Any) -> None:
    @tool
    def keep(value: Any) -> None:
        """Never run."""

    room = make(Says([TextDelta("a"), CallRequested("1", "keep", arguments), StepFinished("stop")]), [keep])
    run = room.play()
    assert (run.status, run.error_code, len(room.model.requests)) == ("failed", "provider_error", 1)
    assert "CallRequested" in run.error_detail and "which JSON does not have" in run.error_detail
    assert not run.tool_calls.exists()


@pytest.mark.covers("fc:A2")
@pytest.mark.parametrize("value", NO_JSON.values(), ids=NO_JSON)
def test_an_output_that_no_model_can_have_sent_fails_the_run_and_is_not_asked_for_again(value: Any) -> None:
    room = make(Says([OutputProduced(value), StepFinished("stop")]), output=RootModel[Any])
    run = room.play()
    assert (run.status, run.error_code, len(room.model.requests)) == ("failed", "provider_error", 1)
    assert "Have its adapter give what the provider sent" in run.error_detail


@pytest.mark.covers("fc:A2")
@pytest.mark.parametrize("kind", [MappingProxyType, OrderedDict])
def test_arguments_of_a_mapping_are_those_of_an_object(kind: Any) -> None:
    given: list[Any] = []

    @tool
    def keep(value: Any) -> None:
        """Keep a value."""
        given.append(value)

    calls = [CallRequested("1", "keep", kind({"value": kind({"a": [kind({"b": 1})], "c": (1, 2)})}))]
    run = make(Says([*calls, StepFinished("stop")], [TextDelta("Done."), StepFinished("stop")]), [keep]).play()
    assert (run.status, given) == ("succeeded", [{"a": [{"b": 1}], "c": [1, 2]}])


@pytest.mark.parametrize("reason", [None, 5, ["stop"]])
def test_an_end_whose_reason_is_no_text_leaves_the_answer_as_one_without_a_reason(reason: Any) -> None:
    broken = ModelError("the connection broke", code="network")
    room = make(Says([TextDelta("Hello."), StepFinished(reason), broken]))
    run = room.play()
    assert (run.status, run.finish_reason, len(room.model.requests)) == ("succeeded", "", 1)
    assert run.messages.get(author_kind="agent").text == "Hello."


def test_what_cannot_be_kept_does_not_keep_a_run_from_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **more: Any) -> Message:
        raise ValueError("no message can be made of this")

    monkeypatch.setattr(answer, "compose", refuse)
    run = make(Says([TextDelta("a"), StepFinished("stop")])).play()
    assert (run.status, run.error_code) == ("failed", "internal_error")
    assert not run.messages.filter(author_kind="agent").exists()


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("30", 30.0), (" 1.5 ", 1.5), (-1, 0.0), ("soon", None), ("nan", None), (10**400, None), ([], None), (None, None)],
    ids=lambda value: str(value)[:10],
)
def test_a_time_to_wait_is_a_number_or_its_text(said: Any, seconds: float | None) -> None:
    assert ModelError("wait", code="rate_limited", retry_after=said).retry_after == seconds
