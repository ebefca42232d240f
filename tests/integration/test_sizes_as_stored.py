"""Every limit counts the bytes that are stored, whatever a provider sent them as."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from django.conf import LazySettings

from agentcore import ContextBlock, tool
from agentcore.declaration import registry
from agentcore.engine.steps.draft import Draft
from agentcore.exceptions import RunError
from agentcore.models import ToolCall
from agentcore.providers import CallRequested, ModelEvent, ModelRequest, OutputDelta, StepFinished, TextDelta
from agentcore.services import sizes
from agentcore.testing import Turn
from agentcore.values import jsontext
from agentcore.values.bounded import cut
from tests.integration.room import make

pytestmark = [pytest.mark.django_db, pytest.mark.covers("fc:B9")]
CYRILLIC = "ж" * 60_000
EMPTY_TEXTS = json.dumps({"a": [""] * 33_000}, separators=(",", ":"))


@tool(effect="pure")
def act(text: str) -> str:
    """Act."""
    return text[:10]


class Asks:
    """Asks for calls, and says then that it is done."""

    name, provider = "asks", "tests"

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        if request.step == 1:
            for number, given in enumerate(self.arguments):
                yield CallRequested(f"c{number}", "act", given)
            yield StepFinished("tool_calls")
            return
        yield TextDelta("Done.")
        yield StepFinished("stop")


@pytest.mark.parametrize("given", [EMPTY_TEXTS, json.loads(EMPTY_TEXTS)], ids=["text", "object"])
def test_calls_that_are_kept_are_counted_as_they_are_kept(given: Any) -> None:
    run = make(Asks(*[given] * 10), [act]).play()
    assert (run.status, run.error_code) == ("failed", "answer_too_long")
    assert not ToolCall.objects.exists()


@pytest.mark.parametrize("as_text", [True, False])
def test_arguments_are_measured_in_bytes(as_text: bool) -> None:
    given: Any = {"text": CYRILLIC}
    run = make(Asks(json.dumps(given, ensure_ascii=False) if as_text else given), [act]).play()
    call = ToolCall.objects.get(run=run)
    assert call.status == "failed" and "120011 bytes, of at most 100000" in call.error
    assert len(call.arguments.encode()) < 10_000


@pytest.mark.parametrize("ascii_only", [True, False])
def test_how_a_provider_spells_arguments_makes_them_no_longer(ascii_only: bool) -> None:
    given = json.dumps({"text": "ж" * 40_000}, ensure_ascii=ascii_only, indent=2)
    run = make(Asks(given), [act]).play()
    assert ToolCall.objects.get(run=run).status == "succeeded"


def test_a_call_that_is_too_long_counts_what_is_kept_of_it(settings: LazySettings) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "ANSWER_LIMIT": 20_000, "ARGUMENTS_LIMIT": 5000}
    run = make(Asks(*[{"text": "x" * 6000}] * 100), [act]).play()
    assert (run.status, run.error_code) == ("failed", "answer_too_long")


@pytest.mark.parametrize("kind", [TextDelta, OutputDelta])
@pytest.mark.parametrize(("said", "fits"), [("x", 998), ("ж", 499), ("\\", 499)])
def test_an_answer_in_single_characters_may_be_as_long_as_one_in_one_delta(
    kind: Any, said: str, fits: int, settings: LazySettings
) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "ANSWER_LIMIT": 1000}
    draft = Draft(1)
    with pytest.raises(RunError, match="too long"):
        for _ in range(2000):
            draft.add(kind(said))
    texts = "".join(event.text for event in draft.take())  # type: ignore[union-attr]
    assert texts == said * fits and len(jsontext.encode(texts)) == 1000
    whole = Draft(1)
    whole.add(kind(said * fits))
    with pytest.raises(RunError, match="too long"):
        whole.add(kind(said))


def test_a_result_is_cut_where_a_persons_would_be_refused(settings: LazySettings) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "RESULT_LIMIT": 1000}
    for text in ("x" * 900, "ж" * 480, '"' * 480, "\n" * 480):
        sizes.result(text)
        assert cut(text, 1000) == text
    for text in ("x" * 1100, "ж" * 520, '"' * 520, "\n" * 520, "\x01" * 200):
        with pytest.raises(sizes.TooLarge):
            sizes.result(text)
        kept = cut(text, 1000)
        assert jsontext.TRUNCATED in kept and len(jsontext.encode(kept)) < 1200


def test_a_tools_result_is_measured_in_bytes() -> None:
    @tool(name="act", effect="pure")
    def tells() -> str:
        """Tell."""
        return CYRILLIC

    run = make([Turn(calls=[("act", {})]), Turn(text="Done.")], [tells]).play()
    call = ToolCall.objects.get(run=run)
    assert f"{jsontext.TRUNCATED} 60000 characters" in call.result_json
    assert 99_000 < len((call.result or "").encode()) < 101_000
    assert run.status == "succeeded"


def test_context_is_measured_in_bytes(settings: LazySettings) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "CONTEXT_LIMIT": 1000}
    for text, status in (("ж" * 400, "succeeded"), ("ж" * 600, "failed"), ("\n" * 600, "failed")):
        with registry.isolated():
            run = make([Turn(text="Done.")], context=[lambda about, text=text: [ContextBlock("file", text)]]).play()
        assert (run.status, run.error_code) == (status, "context_too_large" if status == "failed" else "")
