"""Runs that are cancelled, go on after a pause, or are driven by models that live in this process."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.test import TestModel

from agentcore import SYSTEM
from agentcore.providers import StepFinished, UsageReported
from agentcore.providers.pydantic_ai import PydanticAIModel
from agentcore.services import runs
from agentcore.testing.faults.http_model import Reply
from tests.integration.adapter.scene import EVERY_WIRE, MODELS, NAMES, chosen, events_of, look, model_at, room_at, said
from tests.integration.room import driven, fresh, log, make
from tests.stack import ROOT, wait_for
from tests.wires import WIRES, Fault, Wire, replies

pytestmark = pytest.mark.once


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("long_lease")
@pytest.mark.parametrize("wire", EVERY_WIRE, ids=NAMES)
def test_a_cancelled_run_hangs_up_and_keeps_what_was_said_and_used(wire: Wire) -> None:
    with wire.serve(replies.stays(wire.says("Good ", "day.", "And more."), _after_the_first_words(wire))) as server:
        run = room_at(wire, server).send()
        with driven(run):
            wait_for(lambda: "text.delta" in [event["type"] for event in log(run)], 20, "the first words")
            runs.cancel(run, user=SYSTEM)
        assert server.hung_up.wait(5)
    run = fresh(run)
    assert run.status == "canceled"
    assert run.messages.get(author_kind="agent").text.startswith("Good")
    if wire.name in ("anthropic", "gemini"):  # the others count at the end only
        assert run.usage["input_tokens"] == 10


async def test_an_answer_that_its_provider_pauses_goes_on() -> None:
    wire = WIRES["anthropic"]
    paused = wire.says("Good ")
    paused = replace(paused, pieces=[piece.replace(b'"end_turn"', b'"pause_turn"') for piece in paused.pieces])
    with wire.serve(paused, wire.says("day.")) as server:
        events = await events_of(model_at(wire, server))
        assert server.requests[1].body["messages"][-1]["role"] == "assistant"
    assert said(events) == "Good day."
    assert chosen(events, StepFinished)[-1].reason == "stop"
    assert chosen(events, UsageReported)[-1].usage.input_tokens == 20


@pytest.mark.django_db
def test_a_background_answer_ends_with_what_to_change() -> None:
    wire = WIRES["responses"]
    with wire.serve() as server:
        run = room_at(wire, server, model_settings={"openai_background": True}).play()
        assert not server.requests
    assert (run.status, run.error_code) == ("failed", "invalid_request")
    assert "Remove that setting" in run.error_detail


@pytest.mark.django_db
def test_a_model_in_this_process_works_too() -> None:
    run = make(PydanticAIModel(TestModel(custom_output_text="Good day.")), [look]).play()
    assert (run.status, run.messages.filter(author_kind="agent").last().text) == ("succeeded", "Good day.")
    assert run.tool_calls.count() == 1


async def test_several_models_of_pydantic_ais_own_list_answer_one_after_the_other() -> None:
    wire = WIRES["chat"]
    with wire.serve(wire.fails(Fault.SERVER)) as down, wire.serve(wire.says("Good day.")) as up:
        several = [MODELS["chat"](wire.model, wire.base(server), wire.key) for server in (down, up)]
        model = PydanticAIModel(FallbackModel(*several))
        assert said(await events_of(model)) == "Good day."
        assert (len(down.requests), wire.key in model.origin) == (1, False)


FORKS = """
import asyncio, os, sys
import django
django.setup()
from tests.integration.adapter.scene import events_of, model_at, said
from tests.wires import WIRES

wire = WIRES["chat"]
server = type("Server", (), {"url": sys.argv[1] + "/v1", "address": sys.argv[1]})
model = model_at(wire, server)
assert said(asyncio.run(events_of(model))) == "Good day."
if child := os.fork():
    _, status = os.waitpid(child, 0)
    os._exit(os.waitstatus_to_exitcode(status) or asyncio.run(events_of(model)) == [])
os._exit(said(asyncio.run(events_of(model))) != "Good day.")
"""


def test_a_model_made_before_a_fork_answers_in_both_processes() -> None:
    wire = WIRES["chat"]
    with wire.serve(*[wire.says("Good day.")] * 3) as server:
        command = [sys.executable, "-W", "error::ResourceWarning", "-c", FORKS, server.address]
        done = subprocess.run(
            command, cwd=ROOT, env={**_environment(), "PYTHONPATH": str(ROOT)}, capture_output=True, timeout=60
        )
        assert (done.returncode, done.stderr.decode()) == (0, "")
        assert len(server.requests) == 3


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings.sqlite"}


def _after_the_first_words(wire: Wire) -> int:
    """How many frames bring the first word."""
    frames: Reply = wire.says("Good ", "day.", "And more.")
    return next(place for place, frame in enumerate(frames.pieces, 1) if b"Good" in frame)  # type: ignore[operator]
