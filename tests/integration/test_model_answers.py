"""What a model said counts once it has said that it is done; what is no answer is asked for again."""

from __future__ import annotations

import asyncio
import errno
import http.client
import ssl
from collections.abc import AsyncIterator
from typing import Any
from urllib.error import URLError

import httpx
import openai
import pytest
from django.conf import LazySettings
from django.test import Client
from django.urls import reverse
from pydantic import BaseModel

from agentcore.engine.drive import LONGEST_PAUSE
from agentcore.engine.steps import model as steps
from agentcore.exceptions import ModelError
from agentcore.models import Step
from agentcore.providers import ModelEvent, ModelRequest, ReasoningDelta, StepFinished, TextDelta, failure_of
from agentcore.testing import Turn
from tests.integration.room import log, make, types
from tests.integration.says import Says

pytestmark = [pytest.mark.once, pytest.mark.django_db]


@pytest.fixture(autouse=True)
def _no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed call is made again at once."""
    monkeypatch.setattr(steps.random, "uniform", lambda low, high: 0.0)


ANSWER = [TextDelta("Hello."), StepFinished("stop")]
NOTHING = {
    "nothing said": [StepFinished("stop")],
    "reasoning only": [ReasoningDelta("Hm."), StepFinished("stop")],
    "calls that are none": [StepFinished("tool_calls")],
    "calls announced, none made": [TextDelta("I will look."), StepFinished("tool_calls")],
    "blanks": [TextDelta(" \n\u200b\t"), StepFinished("stop")],
    "an empty stream": [],
    "cut off while it thought": [ReasoningDelta("Hm"), StepFinished("length")],
}


@pytest.mark.covers("fc:B2")
@pytest.mark.parametrize("turn", NOTHING.values(), ids=NOTHING)
def test_an_answer_that_says_nothing_is_asked_for_again(turn: list[Any]) -> None:
    room = make(Says(turn, ANSWER))
    run = room.play()
    assert (run.status, run.finish_reason, len(room.model.requests)) == ("succeeded", "stop", 2)
    assert [message.text for message in run.messages.filter(author_kind="agent")] == ["Hello."]
    assert types(run).count("step.reset") == 1
    failed = Step.objects.get(run=run, status="failed")
    assert failed.error_code == "empty_answer"


@pytest.mark.covers("fc:B2")
def test_a_model_that_never_says_anything_fails_the_run_with_a_code(settings: LazySettings) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "MODEL_RETRIES": 1}
    run = make(Says([StepFinished("stop")], [StepFinished("stop")])).play()
    assert (run.status, run.error_code, run.finish_reason) == ("failed", "empty_answer", "stop")
    assert run.error_message == ModelError.SENTENCES["empty_answer"]


@pytest.mark.covers("fc:B12")
@pytest.mark.parametrize(
    "after",
    [ConnectionError("reset"), ModelError("gone", code="network"), RuntimeError("aclose"), StopAsyncIteration()],
    ids=lambda error: type(error).__name__,
)
def test_what_breaks_after_the_end_takes_nothing_of_the_answer_away(after: BaseException) -> None:
    room = make(Says([*ANSWER, after]))
    run = room.play()
    assert (run.status, run.finish_reason, len(room.model.requests)) == ("succeeded", "stop", 1)
    assert run.messages.get(author_kind="agent").text == "Hello."


@pytest.mark.covers("fc:B12")
def test_a_stream_without_a_way_to_close_it_is_read_to_its_end() -> None:
    class Plain:
        def __init__(self) -> None:
            self.left = list(ANSWER)

        def __aiter__(self) -> Plain:
            return self

        async def __anext__(self) -> ModelEvent:
            if not self.left:
                raise StopAsyncIteration
            return self.left.pop(0)

    class Model:
        name, provider = "plain", "tests"

        def stream(self, request: ModelRequest) -> Plain:
            return Plain()

    assert make(Model()).play().status == "succeeded"


@pytest.mark.covers("fc:B12")
def test_a_stream_that_stays_open_after_the_end_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentcore.engine.steps.stream.AFTER_THE_END", 0.05)

    class Lingers(Says):
        async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
            for event in ANSWER:
                yield event
            await asyncio.sleep(600)

    assert make(Lingers()).play().status == "succeeded"


REQUEST = httpx.Request("POST", "http://127.0.0.1/")
CONNECTIONS = [
    (ConnectionError("reset"), "network"),
    (ConnectionResetError(errno.ECONNRESET, "reset"), "network"),
    (OSError(errno.EHOSTUNREACH, "no route"), "network"),
    (ssl.SSLError("eof"), "network"),
    (http.client.IncompleteRead(b""), "network"),
    (asyncio.IncompleteReadError(b"", 5), "network"),
    (URLError(ConnectionRefusedError()), "network"),
    (httpx.ReadError("gone", request=REQUEST), "network"),
    (httpx.RemoteProtocolError("gone", request=REQUEST), "network"),
    (httpx.ReadTimeout("late", request=REQUEST), "timeout"),
    (openai.APIConnectionError(request=REQUEST), "network"),
    (openai.APITimeoutError(request=REQUEST), "timeout"),
    (TimeoutError("late"), "timeout"),
    (ExceptionGroup("of a task group", [ConnectionError("reset")]), "network"),
]


@pytest.mark.covers("fc:C11")
@pytest.mark.parametrize("error, code", CONNECTIONS, ids=lambda value: type(value).__name__)
def test_a_connection_that_fails_is_tried_again_whoever_raises_it(error: BaseException, code: str) -> None:
    room = make(Says([TextDelta("Hel"), error], ANSWER))
    run = room.play()
    assert (run.status, len(room.model.requests)) == ("succeeded", 2)
    assert Step.objects.get(run=run, status="failed").error_code == code


@pytest.mark.covers("fc:C11")
def test_an_exception_that_wraps_a_failed_connection_is_one() -> None:
    wrapped = RuntimeError("my own words")
    wrapped.__cause__ = httpx.ConnectError("refused", request=REQUEST)
    assert failure_of(wrapped).run_code == "network"


@pytest.mark.covers("fc:C11")
@pytest.mark.parametrize(
    "error",
    [TypeError("x"), KeyError("x"), FileNotFoundError(errno.ENOENT, "x"), httpx.UnsupportedProtocol("no scheme")],
    ids=lambda error: type(error).__name__,
)
def test_a_mistake_of_the_program_fails_at_once(error: BaseException) -> None:
    room = make(Says([error]))
    run = room.play()
    assert (run.status, run.error_code, len(room.model.requests)) == ("failed", "model_failed", 1)


SECRET = "Incorrect API key provided: sk-live-1234; org acme-internal"


@pytest.mark.covers("fc:B11")
@pytest.mark.parametrize("error", [ModelError(SECRET, code="auth"), ValueError(SECRET)], ids=["provider", "adapter"])
def test_a_providers_words_are_for_operators(
    error: BaseException, user: Any, client: Client, admin_client: Client
) -> None:
    room = make(Says([error]), user=user)
    run = room.play()
    assert run.status == "failed" and SECRET in run.error_detail
    client.force_login(user)
    seen = [
        client.get(reverse("agentcore:get_run", args=[run.pk])).content.decode(),
        client.get(reverse("agentcore:list_messages", args=[room.thread.pk])).content.decode(),
        str(log(run)),
    ]
    assert all("sk-live" not in text and "acme" not in text for text in seen)
    page = admin_client.get(reverse("admin:agentcore_run_change", args=[run.pk])).content.decode()
    assert "acme-internal" in page


@pytest.mark.covers("fc:C2")
def test_a_wait_longer_than_the_setting_fails_at_once_and_says_how_long(user: Any, client: Client) -> None:
    room = make(Says([ModelError("slow down", code="rate_limited", retry_after=3600)]), user=user)
    run = room.play()
    assert (run.status, run.error_code, run.retry_after) == ("failed", "rate_limited", 3600)
    assert "60 minutes" in run.error_message
    (error,) = [event for event in log(run) if event["type"] == "error"]
    assert error["retry_after"] == 3600
    client.force_login(user)
    assert client.get(reverse("agentcore:get_run", args=[run.pk])).json()["error"]["retry_after"] == 3600


@pytest.mark.covers("fc:C2")
@pytest.mark.parametrize("seconds", [301, 900])
def test_a_wait_within_the_setting_is_honoured_to_the_second(seconds: int) -> None:
    again = steps.retry_in(ModelError("slow down", code="rate_limited", retry_after=seconds), 0)
    assert again == seconds > LONGEST_PAUSE


@pytest.mark.covers("fc:C2")
@pytest.mark.parametrize("nonsense", [float("nan"), float("inf"), -5.0])
def test_a_wait_that_is_no_time_is_none(nonsense: float) -> None:
    assert not ModelError("slow down", code="rate_limited", retry_after=nonsense).retry_after


class Triage(BaseModel):
    urgency: int


@pytest.mark.covers("fc:B7")
def test_an_output_that_was_mended_leaves_one_answer() -> None:
    bad, good = Turn(text="It is late.", output={"urgency": "very"}), Turn(output={"urgency": 3})
    room = make([bad, good, Turn(text="Sure.", output={"urgency": 1})], output=Triage)
    run = room.play()
    assert (run.status, run.output) == ("succeeded", {"urgency": 3})
    assert [message.text for message in run.messages.filter(author_kind="agent")] == ["It is late."]
    mending = room.model.requests[1]
    assert '{"urgency":"very"}' in mending.feedback and "urgency" in mending.feedback
    assert mending.mends_output
    assert mending.messages[-1].parts[0].text == "It is late."
    kept = Step.objects.filter(run=run).order_by("number").first()
    assert kept.rejected["output"] == {"urgency": "very"} and kept.error_code == "output_invalid"
    room.play("And now?")
    shown = [part.text for message in room.model.requests[-1].messages for part in message.parts]
    assert shown == ["Go", "It is late.", "And now?"]


@pytest.mark.covers("fc:B7")
def test_a_mended_answer_with_words_of_its_own_replaces_the_refused_one() -> None:
    room = make([Turn(text="Bad.", output={}), Turn(text="Good.", output={"urgency": 3})], output=Triage)
    run = room.play()
    assert [message.text for message in run.messages.filter(author_kind="agent")] == ["Good."]
    assert types(run).count("step.reset") == 1


@pytest.mark.covers("fc:B7")
def test_after_an_output_that_was_never_valid_no_later_model_reads_it(settings: LazySettings) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "OUTPUT_RETRIES": 1}
    bad = [Turn(text=text, output={"urgency": "no"}) for text in ("Bad.", "Worse.")]
    room = make([*bad, Turn(text="Fine.", output={"urgency": 1})], output=Triage)
    run = room.play()
    assert (run.status, run.error_code) == ("failed", "output_invalid")
    assert not run.messages.filter(author_kind="agent").exists()
    room.play("Again.")
    assert [part.text for message in room.model.requests[-1].messages for part in message.parts] == ["Go", "Again."]


@pytest.mark.covers("fc:B3")
def test_an_output_cut_off_by_its_length_is_asked_for_again_shorter() -> None:
    cut = Turn(text="Here:", output='{"urgen', finish="length")
    room = make([cut, Turn(text="Done.", output={"urgency": 2})], output=Triage)
    run = room.play()
    assert (run.status, run.output, run.finish_reason) == ("succeeded", {"urgency": 2}, "stop")
    assert "Send it again, shorter." in room.model.requests[1].feedback
