"""The connection to a model fails in every way it can, and no tool ever runs on half a call."""

from __future__ import annotations

import json

import pytest
from asgiref.sync import async_to_sync
from django.conf import LazySettings

from agentcore.models import Run, Step, ToolCall
from agentcore.providers import CallRequested, StepFinished, TextDelta
from agentcore.testing import FaultProxy, HttpModel
from agentcore.testing.faults.http_model import FunctionCall, Pause, Reply, answers, asks, redirects, says
from agentcore.testing.faults.wire import DONE, chunk, sse
from tests.faults.providers import KEY, heard, thinking
from tests.integration.checker.crime import HAPPENED, act
from tests.integration.room import log, types

CALL = asks(FunctionCall("act", {"text": "Grüße 🐻"}), text="Schön, 🐻.")
BYTES = b"".join(piece for piece in CALL.pieces if isinstance(piece, bytes))
FINISH = BYTES.index(b'"finish_reason": "tool_calls"')


@pytest.fixture(autouse=True)
def _nothing_happened() -> None:
    HAPPENED.clear()


@pytest.fixture(scope="module", autouse=True)
def _the_sdk_is_loaded() -> None:
    """Have one call made: the SDK loads most of itself with its first, and longer than a model here may take."""
    with HttpModel(says("Hello.")) as model:
        async_to_sync(heard)(model)


@pytest.fixture
def quick(settings: LazySettings) -> None:
    """A model's silence counts as a fault after a second: on a busy machine, a prompt answer takes half of one."""
    settings.AGENTCORE = {**settings.AGENTCORE, "MODEL_TIMEOUT": 1}


def tries(run: Run) -> list[str]:
    """How each try of the model ended, the last one last; on a busy machine not every try reaches the model."""
    return list(Step.objects.filter(run=run).order_by("started_at").values_list("error_code", flat=True))


# --- M7: cut anywhere -------------------------------------------------------------------------------------------


@pytest.mark.once
@pytest.mark.longer
@pytest.mark.covers("fault:M7")
@pytest.mark.parametrize("politely", [False, True], ids=["abruptly", "politely"])
async def test_a_stream_cut_after_any_byte_brings_no_call(politely: bool) -> None:
    with HttpModel(script=lambda seen: replies.pop(0)) as model:
        for size in range(0, FINISH, 7):
            replies = [CALL.cut(size, politely=politely)]
            events, error = await heard(model)
            assert error is not None and error.retryable, f"after {size} bytes"
            assert not [event for event in events if isinstance(event, CallRequested | StepFinished)]


@pytest.mark.once
@pytest.mark.covers("fault:M7")
async def test_a_connection_cut_at_any_byte_brings_no_call_either() -> None:
    with HttpModel(script=lambda seen: CALL) as model, FaultProxy(model.url) as proxy:
        for size in range(0, FINISH + 150, 41):
            proxy.cut_after(size, times=1)
            events, error = await heard(model, proxy.url)
            assert error is not None and error.run_code == "network", f"after {size} bytes"
            assert not [event for event in events if isinstance(event, CallRequested | StepFinished)]


@pytest.mark.once
@pytest.mark.covers("fault:M7")
async def test_characters_cut_in_two_by_the_network_come_out_whole() -> None:
    with HttpModel(Reply([BYTES[place : place + 1] for place in range(len(BYTES))])) as model:
        events, error = await heard(model)
    assert error is None
    assert events[0] == TextDelta("Schön, 🐻.")
    assert isinstance(events[-2], CallRequested)
    assert json.loads(str(events[-2].arguments)) == {"text": "Grüße 🐻"}


@pytest.mark.django_db
@pytest.mark.covers("fault:M7")
@pytest.mark.parametrize("size", [0, FINISH // 3, FINISH // 2, FINISH - 1])
def test_a_step_whose_stream_was_cut_is_asked_for_again_and_its_call_runs_once(size: int) -> None:
    with HttpModel(CALL.cut(size), CALL, says("Done.")) as model:
        run = thinking(model, [act]).play()
    assert run.status == "succeeded" and len(HAPPENED) == 1 and len(model.requests) == 3
    assert types(run).count("step.reset") == 1
    (failed,) = Step.objects.filter(run=run, status="failed")
    assert failed.error_code == "network"
    assert "🐻" in ToolCall.objects.get(run=run).arguments


# --- M6: silence --------------------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.covers("fault:M6")
@pytest.mark.parametrize("before", [[], [sse(chunk({"content": "Well, "}))]], ids=["from the start", "after a word"])
def test_a_model_that_falls_silent_is_left_and_asked_again(quick: None, before: list[bytes]) -> None:
    silent = [Reply([*before, Pause()])]
    with HttpModel(script=lambda seen: silent.pop() if silent else says("Done.")) as model:
        run = thinking(model).play()
        assert model.hung_up.wait(10)  # the connection is not left open
    assert run.status == "succeeded" and len(model.requests) > 1
    reset = next(event for event in log(run) if event["type"] == "step.reset")
    assert reset["reason"] == "timeout"
    said = [event["text"] for event in log(run) if event["type"] == "text.delta" and event["seq"] > reset["seq"]]
    assert "".join(said) == "Done."


@pytest.mark.django_db
@pytest.mark.covers("fault:M6")
def test_a_model_that_only_trickles_is_left_at_the_steps_deadline(settings: LazySettings) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "STEP_SECONDS": 1, "MODEL_RETRIES": 1}
    with HttpModel(script=lambda seen: says(*["x "] * 1000, delay=0.05)) as model:
        run = thinking(model).play()
    assert (run.status, run.error_code, tries(run)) == ("failed", "timeout", ["timeout", "timeout"])
    assert model.requests


@pytest.mark.django_db
@pytest.mark.covers("fault:M6")
def test_a_model_that_stays_silent_fails_the_run_after_its_retries(quick: None, settings: LazySettings) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "MODEL_RETRIES": 1}
    with HttpModel(script=lambda seen: Reply([Pause()])) as model:
        run = thinking(model).play()
    assert (run.status, run.error_code, tries(run)) == ("failed", "timeout", ["timeout", "timeout"])
    assert model.requests


# --- M13: somewhere else, something else --------------------------------------------------------------------------


@pytest.mark.once
@pytest.mark.covers("fault:M13")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed_with_the_key_and_the_conversation(status: int) -> None:
    with HttpModel(says("I am somebody else.")) as other:
        with HttpModel(redirects(f"{other.url}/chat/completions", status)) as model:
            events, error = await heard(model)
        assert other.requests == [] and events == []
    assert error is not None and (error.run_code, error.retryable) == ("invalid_request", False)
    assert KEY not in error.message


@pytest.mark.once
@pytest.mark.covers("fault:M13")
@pytest.mark.parametrize(
    ("body", "content_type"),
    [(b"<html>Please log in.</html>", "text/html"), (b'{"choices": []}', "application/json")],
)
async def test_an_answer_that_is_no_stream_is_an_error_of_the_provider(body: bytes, content_type: str) -> None:
    with HttpModel(answers(body, content_type)) as model:
        events, error = await heard(model)
    assert events == [] and error is not None and error.run_code == "provider_error"
    assert content_type in error.message


@pytest.mark.once
@pytest.mark.covers("fault:M13")
@pytest.mark.parametrize("media_type", ["text/event-stream; charset=utf-8", "text/plain"])
async def test_a_stream_is_read_whatever_its_server_calls_it(media_type: str) -> None:
    body = b"".join([sse(chunk({"content": "Hi"})), sse(chunk({}, "stop")), DONE])
    with HttpModel(answers(body, media_type)) as model:
        events, error = await heard(model)
    assert error is None and events == [TextDelta("Hi"), StepFinished("stop")]


@pytest.mark.django_db
@pytest.mark.covers("fault:M13")
def test_a_redirect_fails_the_run_at_once() -> None:
    with HttpModel(redirects("http://127.0.0.1:9/v1")) as model:
        run = thinking(model).play()
    assert (run.status, run.error_code, len(model.requests)) == ("failed", "invalid_request", 1)
    assert Run.objects.get(pk=run.pk).attempt == 1
