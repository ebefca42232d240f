"""A list of models: where the first is away before it has said anything, the next one answers, and the step says so."""

from __future__ import annotations

import pytest

from agentcore.engine.steps import model as steps
from agentcore.models import Step
from tests.integration.adapter.scene import EVERY_WIRE, NAMES, look, model_at
from tests.integration.room import make
from tests.wires import WIRES, Fault, Finish, FunctionCall, Text, Thought, Wire, replies

pytestmark = [pytest.mark.once, pytest.mark.django_db]


@pytest.mark.parametrize("wire", EVERY_WIRE, ids=NAMES)
def test_the_second_model_answers_where_the_first_is_down(wire: Wire) -> None:
    other = WIRES["chat" if wire.name != "chat" else "anthropic"]
    with wire.serve(wire.fails(Fault.UNAVAILABLE)) as down, other.serve(other.says("Good day.")) as up:
        run = make((model_at(wire, down), model_at(other, up))).play()
        assert (len(down.requests), len(up.requests)) == (1, 1)
    assert (run.status, run.messages.get(author_kind="agent").text) == ("succeeded", "Good day.")
    answered = [(step.model, step.status) for step in Step.objects.filter(run=run).order_by("number", "pk")]
    assert answered[-1] == (other.model, "finished")


def test_a_model_that_has_begun_to_speak_is_asked_again_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps.random, "uniform", lambda low, high: 0.0)
    wire = WIRES["chat"]
    half = replies.broken(wire.says("Good ", "day."), 2, wire.breaks(Fault.SERVER))
    with wire.serve(half, wire.says("Good day.")) as first, wire.serve() as second:
        run = make((model_at(wire, first), model_at(wire, second))).play()
        assert (len(first.requests), len(second.requests)) == (2, 0)
    assert run.status == "succeeded", run.error_detail


def test_signatures_of_the_first_are_not_sent_to_the_second() -> None:
    one, other = WIRES["anthropic"], WIRES["responses"]
    asks = one.answer(Thought("Hm", "s1"), FunctionCall("look", {"n": 1}, "a"), finish=Finish.CALLS)
    with one.serve(asks, one.fails(Fault.OVERLOADED)) as first, other.serve(other.answer(Text(("Two.",)))) as second:
        run = make((model_at(one, first), model_at(other, second)), [look]).play()
        assert run.status == "succeeded", run.error_detail
        assert one.seal("s1") not in str(second.requests[0].body)
