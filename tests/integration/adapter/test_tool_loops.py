"""A whole run against a wire whose server refuses what its real one refuses: what has to come back comes back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from agentcore import SYSTEM
from agentcore.models import Run
from agentcore.services import execution
from agentcore.testing.faults.http_model import Reply
from agentcore.testing.faults.wire import sse
from tests.integration.adapter.scene import EVERY_WIRE, NAMES, model_at, room_at
from tests.wires import WIRES, Finish, FunctionCall, Text, Thought, Wire

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


def test_reasoning_in_several_summaries_goes_back_as_one_item_with_its_content() -> None:
    wire = WIRES["responses"]
    first = wire.answer(Thought("Hm", "s1"), FunctionCall("look", {"n": 1}, "a"), finish=Finish.CALLS)
    with wire.serve(replace(first, pieces=list(_with_a_second_summary(first))), wire.says("Two.")) as server:
        run = room_at(wire, server).play()
        items = [item for item in server.requests[1].body["input"] if item.get("type") == "reasoning"]
    assert run.status == "succeeded", run.error_detail
    assert [part.text for part in run.messages.filter(author_kind="agent").first().parts[:2]] == ["Hm", "And more."]
    (item,) = items
    assert item["encrypted_content"] == wire.seal("s1")
    assert [summary["text"] for summary in item["summary"]] == ["Hm", "And more."]


def _with_a_second_summary(reply: Reply) -> Iterator[bytes]:
    """Yield the frames of a reply whose reasoning has two summaries: what is sealed of it comes after both."""
    for frame in reply.pieces:
        assert isinstance(frame, bytes)
        yield frame
        if b'"response.reasoning_summary_part.done"' in frame:
            said = json.loads(frame.partition(b"data: ")[2])
            for kind, members in (
                ("part.added", {"part": {"type": "summary_text", "text": ""}}),
                ("text.delta", {"delta": "And more."}),
                ("part.done", {"part": {"type": "summary_text", "text": "And more."}}),
            ):
                name = f"response.reasoning_summary_{kind}"
                yield sse({**said, "type": name, "summary_index": 1, **members})
