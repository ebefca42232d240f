"""A whole run against a wire whose server refuses what its real one refuses: what has to come back comes back."""

from __future__ import annotations

import json

import pytest

from agentcore import SYSTEM
from agentcore.models import Run
from agentcore.services import execution
from tests.integration.adapter.scene import EVERY_WIRE, NAMES, model_at, room_at
from tests.wires import Finish, FunctionCall, Text, Thought, Wire

pytestmark = [pytest.mark.once, pytest.mark.django_db]
every_wire = pytest.mark.parametrize("wire", EVERY_WIRE, ids=NAMES)


def _texts(run: Run) -> list[str]:
    return [message.text for message in run.messages.filter(author_kind="agent")]


@every_wire
def test_a_tool_loop_with_reasoning_sends_its_signatures_back_in_this_turn_and_the_next(wire: Wire) -> None:
    replies = [
        wire.answer(Thought("Hm", "s1"), FunctionCall("look", {"n": 1}, "a"), finish=Finish.CALLS),
        wire.answer(Thought("Hm hm", "s2"), FunctionCall("look", {"n": 2}, "b"), finish=Finish.CALLS),
        wire.answer(Thought("Ah", "s3"), Text(("It is ", "two."))),
        wire.says("Still two."),
    ]
    with wire.serve(*replies) as server:
        room = room_at(wire, server)
        run = room.play("Where is it?")
        again = room.play("And now?")
        assert not server.unexpected
        bodies = [json.dumps(request.body) for request in server.requests]
    assert (run.status, again.status) == ("succeeded", "succeeded"), (run.error_detail, again.error_detail)
    assert (_texts(run)[-1], _texts(again)) == ("It is two.", ["Still two."])
    if wire.signs:
        assert [wire.seal("s1") in body for body in bodies[1:3]] == [True, True]
        assert wire.seal("s2") in bodies[2]
    assert [text in bodies[2] for text in ("seen 1", "seen 2")] == [True, True]


@every_wire
def test_parallel_calls_all_get_their_results_in_one_request(wire: Wire) -> None:
    calls = [FunctionCall("look", {"n": number}, f"call_{number}") for number in (1, 2, 3)]
    with wire.serve(wire.answer(Thought("Hm", "s1"), *calls, finish=Finish.CALLS), wire.says("Done.")) as server:
        run = room_at(wire, server).play()
    assert run.status == "succeeded", run.error_detail
    assert [f"seen {number}" in str(server.requests[1].body) for number in (1, 2, 3)] == [True, True, True]


@every_wire
def test_what_one_provider_wants_back_never_reaches_another(wire: Wire) -> None:
    first = wire.answer(Thought("Hm", "s1"), FunctionCall("look", {"n": 1}, "a"), finish=Finish.CALLS)
    with wire.serve(first, wire.answer(Thought("Hm", "s2"), Text(("Done.",)))) as server:
        room = room_at(wire, server)
        assert room.play().status == "succeeded"
    for other in EVERY_WIRE:
        with other.serve(other.says("Hello.")) as server:
            run = execution.execute(room.send("Again"), user=SYSTEM, model=model_at(other, server))
            assert run.status == "succeeded", (wire.name, other.name, run.error_detail)
            assert wire.seal("s1") not in str(server.requests[0].body) or not wire.signs
