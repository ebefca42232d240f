"""A structured output goes together with tools, reasoning and a reply, is mended, and does no harm to later turns."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel

from agentcore import Answer, AskAgain, Guard
from agentcore.models import Run
from agentcore.providers import OutputDelta, OutputProduced, StepFinished, UsageReported
from tests.integration.adapter.scene import EVERY_WIRE, NAMES, chosen, events_of, look, model_at, room_at, said
from tests.wires import Finish, FunctionCall, Text, Thought, Wire

pytestmark = [pytest.mark.once, pytest.mark.django_db]
every_wire = pytest.mark.parametrize("wire", EVERY_WIRE, ids=NAMES)


class Record(BaseModel):
    """What became of it."""

    place: int
    sure: bool = True


RECORD = FunctionCall("final_answer", {"place": 2, "sure": True}, "r")
SCHEMA = Record.model_json_schema()


def texts_of(run: Run) -> list[str]:
    return [message.text for message in run.messages.filter(author_kind="agent") if message.text]


@every_wire
def test_a_reply_and_its_record_come_in_one_answer_after_tools(wire: Wire) -> None:
    replies = [
        wire.answer(Thought("Hm", "s1"), FunctionCall("look", {"n": 2}, "a"), finish=Finish.CALLS),
        wire.answer(Thought("Ah", "s2"), Text(("It is two.",)), RECORD, finish=Finish.CALLS),
        wire.answer(Thought("Ah", "s3"), Text(("Still two.",)), RECORD, finish=Finish.CALLS),
    ]
    with wire.serve(*replies) as server:
        room = room_at(wire, server, [look], output=Record)
        run, again = room.play("Where?"), room.play("And now?")
        assert not server.unexpected
    assert (run.status, run.output, texts_of(run)) == ("succeeded", {"place": 2, "sure": True}, ["It is two."])
    assert (again.status, again.output, texts_of(again)) == ("succeeded", run.output, ["Still two."]), (
        again.error_detail
    )


@every_wire
def test_a_record_without_a_word_is_followed_by_one_request_for_the_reply(wire: Wire) -> None:
    silent = wire.answer(Thought("Hm", "s1"), RECORD, finish=Finish.CALLS)
    reply = wire.answer(Thought("Ah", "s2"), Text(("It is two.",)))
    with wire.serve(silent, reply, wire.answer(Text(("Still.",)), RECORD, finish=Finish.CALLS)) as server:
        room = room_at(wire, server, [look], output=Record)
        run, again = room.play("Where?"), room.play("And now?")
        assert not server.unexpected
        assert len(server.requests) == 3
    assert (run.status, run.output, texts_of(run)) == ("succeeded", {"place": 2, "sure": True}, ["It is two."])
    assert run.usage["input_tokens"] == 20  # of both
    assert again.status == "succeeded", again.error_detail


@every_wire
def test_an_agent_that_owes_nobody_a_reply_is_asked_once(wire: Wire) -> None:
    with wire.serve(wire.answer(RECORD, finish=Finish.CALLS)) as server:
        run = room_at(wire, server, [look], output=Record, model_settings={"agentcore_reply": False}).play()
        assert len(server.requests) == 1
    assert (run.status, run.output) == ("succeeded", {"place": 2, "sure": True})


@every_wire
def test_a_record_that_does_not_fit_is_mended_with_the_reply_kept(wire: Wire) -> None:
    wrong = FunctionCall("final_answer", {"place": "two"}, "w")
    replies = [
        wire.answer(Thought("Hm", "s1"), Text(("It is two.",)), wrong, finish=Finish.CALLS),
        wire.answer(Thought("Ah", "s2"), RECORD, finish=Finish.CALLS),
        wire.answer(Text(("Still two.",)), RECORD, finish=Finish.CALLS),
    ]
    with wire.serve(*replies) as server:
        room = room_at(wire, server, [look], output=Record)
        run, again = room.play("Where?"), room.play("And now?")
        asked_again = json.dumps(server.requests[1].body)
        assert not server.unexpected
        assert len(server.requests) == 3
    assert (run.status, run.output, texts_of(run)) == ("succeeded", {"place": 2, "sure": True}, ["It is two."])
    assert "was not accepted" in asked_again and "two" in asked_again
    assert (again.status, texts_of(again)) == ("succeeded", ["Still two."]), again.error_detail


@every_wire
def test_a_mended_record_stands_behind_its_own_thought_in_later_turns(wire: Wire) -> None:
    wrong = FunctionCall("final_answer", {"place": "two"}, "w")
    replies = [
        wire.answer(Text(("It is two.",)), wrong, finish=Finish.CALLS),
        wire.answer(Thought("Ah", "s2"), RECORD, finish=Finish.CALLS),
        wire.answer(Text(("Still two.",)), RECORD, finish=Finish.CALLS),
    ]
    with wire.serve(*replies) as server:
        room = room_at(wire, server, [look], output=Record)
        run, again = room.play("Where?"), room.play("And now?")
        assert not server.unexpected
    assert (run.status, texts_of(run)) == ("succeeded", ["It is two."])
    assert (again.status, texts_of(again)) == ("succeeded", ["Still two."]), again.error_detail


@every_wire
def test_a_record_that_comes_before_the_reply_does_no_harm_to_later_turns(wire: Wire) -> None:
    replies = [
        wire.answer(Thought("Ah", "s1"), RECORD, Text(("It is two.",)), finish=Finish.CALLS),
        wire.answer(Text(("Still two.",)), RECORD, finish=Finish.CALLS),
    ]
    with wire.serve(*replies) as server:
        room = room_at(wire, server, [look], output=Record)
        run, again = room.play("Where?"), room.play("And now?")
        assert not server.unexpected
    assert (run.status, texts_of(run)) == ("succeeded", ["It is two."])
    assert (again.status, texts_of(again)) == ("succeeded", ["Still two."]), again.error_detail


@every_wire
def test_a_record_that_is_given_twice_in_silence_is_followed_by_the_reply(wire: Wire) -> None:
    first = FunctionCall("final_answer", {"place": 1}, "q")
    replies = [
        wire.answer(Thought("Hm", "s1"), first, RECORD, finish=Finish.CALLS),
        wire.says("It is two."),
        wire.answer(Text(("Still two.",)), RECORD, finish=Finish.CALLS),
    ]
    with wire.serve(*replies) as server:
        room = room_at(wire, server, [look], output=Record)
        run, again = room.play("Where?"), room.play("And now?")
        assert not server.unexpected
    assert (run.status, run.output, texts_of(run)) == ("succeeded", {"place": 2, "sure": True}, ["It is two."])
    assert (again.status, texts_of(again)) == ("succeeded", ["Still two."]), again.error_detail


@every_wire
def test_an_answer_that_a_guard_has_asked_for_again_comes_with_its_reply(wire: Wire) -> None:
    said: list[str] = []

    def no_secrets(answer: Answer, about: object) -> AskAgain | None:
        said.append(answer.text)
        return AskAgain("Do not name the secret.") if len(said) == 1 else None

    replies = [
        wire.answer(Text(("The secret is two.",)), RECORD, finish=Finish.CALLS),
        wire.answer(RECORD, finish=Finish.CALLS),
        wire.says("It is two."),
    ]
    with wire.serve(*replies) as server:
        run = room_at(wire, server, [look], output=Record, guards=[Guard(after_answer=no_secrets)]).play("Where?")
        asked_again = json.dumps(server.requests[1].body)
        assert not server.unexpected
    assert (run.status, run.output, texts_of(run)) == ("succeeded", {"place": 2, "sure": True}, ["It is two."])
    assert "Answer again. Do not name the secret." in asked_again and "The record was not accepted" not in asked_again


@every_wire
async def test_the_record_is_shown_while_it_comes(wire: Wire) -> None:
    reply = wire.answer(Text(("Two.",)), RECORD, finish=Finish.CALLS)
    with wire.serve(reply) as server:
        events = await events_of(model_at(wire, server), output_schema=SCHEMA)
    assert json.loads("".join(event.text for event in chosen(events, OutputDelta))) == {"place": 2, "sure": True}
    assert chosen(events, OutputProduced)[-1].value == {"place": 2, "sure": True}
    assert (said(events), chosen(events, StepFinished)[-1].reason) == ("Two.", "stop")


@every_wire
async def test_a_record_beside_calls_is_no_answer_yet(wire: Wire) -> None:
    reply = wire.answer(Text(("Wait.",)), FunctionCall("look", {"n": 1}, "a"), RECORD, finish=Finish.CALLS)
    with wire.serve(reply) as server:
        events = await events_of(model_at(wire, server), output_schema=SCHEMA)
    assert not chosen(events, OutputProduced)
    assert chosen(events, StepFinished)[-1].reason == "tool_calls"


@every_wire
async def test_the_tools_of_the_wire_are_the_agents_and_one_for_the_record(wire: Wire) -> None:
    with wire.serve(wire.answer(Text(("Two.",)), RECORD, finish=Finish.CALLS)) as server:
        await events_of(model_at(wire, server), output_schema=SCHEMA)
        names = _tool_names(server.requests[0].body)
    assert names == ["look", "final_answer"]


@every_wire
async def test_usage_of_two_requests_is_summed(wire: Wire) -> None:
    with wire.serve(wire.answer(RECORD, finish=Finish.CALLS), wire.says("Two.")) as server:
        events = await events_of(model_at(wire, server), output_schema=SCHEMA)
    assert chosen(events, UsageReported)[-1].usage.input_tokens == 20
    assert said(events) == "Two."


def _tool_names(body: dict[str, Any]) -> list[str]:
    found = []
    for tool in body["tools"]:
        if "functionDeclarations" in tool:
            found += [one["name"] for one in tool["functionDeclarations"]]
        else:
            found.append(tool.get("name") or tool["function"]["name"])
    return found
