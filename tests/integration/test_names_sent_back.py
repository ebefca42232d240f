"""What goes back to a model are names and ids that every provider takes; the log keeps what the model said."""

from __future__ import annotations

import re

import pytest

from agentcore import SYSTEM, ToolCallPart, ToolResultPart
from agentcore.models import ToolCall
from agentcore.providers import names
from agentcore.testing import Turn
from tests.integration.room import log, make

pytestmark = [pytest.mark.once, pytest.mark.covers("fc:A14")]
TAKEN = re.compile(r"^[a-zA-Z0-9_-]{1,64}$")
BAD = {
    "blank": "lookup order!",
    "long": "x" * 300,
    "empty": "",
    "unicode": "bestellung_prüfen",
    "emoji": "🙂",
    "other script": "名前",
    "path": "../../etc/passwd",
    "dotted": "os.system",
    "control": "look\x00up\n",
    "surrogate": "\ud800",
    "newline": "lookup\n",
    "namespaced": "functions.lookup:0",
}


def test_a_name_or_an_id_that_all_take_stays_as_it_is():
    for name in ("lookup_order", "a", "Z-9", "x" * 40, "_", "call_" + "f" * 32):
        assert names.call_id(name) == name == names.tool_name(name)
    assert names.tool_name("x" * 64) == "x" * 64
    assert len(names.call_id("x" * 41)) <= 40  # OpenAI's chat completions take no longer one


@pytest.mark.parametrize("said", BAD.values(), ids=BAD)
def test_any_name_becomes_one_that_all_take(said):
    assert TAKEN.fullmatch(names.tool_name(said)) and TAKEN.fullmatch(names.call_id(said))
    assert names.call_id(said) == names.call_id(said) != names.call_id(said + "!")


@pytest.mark.django_db
@pytest.mark.parametrize("said", BAD.values(), ids=BAD)
def test_an_unknown_tool_is_answered_and_replayed_under_a_name_that_all_take(said):
    room = make([Turn(calls=[(said, {"a": 1})]), Turn(text="Sorry."), Turn(text="Again.")])
    assert room.play().status == "succeeded"
    later = room.play("And now?")
    assert later.status == "succeeded", later.error_message
    for request in room.model.requests[1:]:
        parts = [part for item in request.messages for part in item.parts]
        sent = [part for part in parts if isinstance(part, ToolCallPart | ToolResultPart)]
        assert [type(part) for part in sent] == [ToolCallPart, ToolResultPart]
        assert all(TAKEN.match(part.name) and TAKEN.match(part.call_id) for part in sent)
        assert sent[0].name == sent[1].name and sent[0].call_id == sent[1].call_id
        assert all(TAKEN.match(item.name) for item in request.messages if item.author == "tool")
    call = ToolCall.objects.get()
    kept = said.replace("\x00", "\ufffd").replace("\ud800", "\ufffd")[:64]
    assert call.name == kept and call.status == "failed"
    run = later.thread.runs.order_by("number").first()
    assert next(event for event in log(run) if event["type"] == "tool.call")["name"] == kept


@pytest.mark.django_db
def test_a_call_of_an_applications_own_history_goes_back_under_an_id_that_all_take():
    room = make([Turn(text="Done.")])
    given = "toolu/1:" + "é" * 100
    asked = ToolCallPart(given, "look up", {})
    answered = ToolResultPart(given, "look up", "succeeded", "found")
    room.agent.messages.save(room.thread, [asked], user=SYSTEM, author="agent")
    room.agent.messages.save(room.thread, [answered], user=SYSTEM, author="tool")
    assert room.play().status == "succeeded"
    sent = [part for item in room.model.requests[0].messages for part in item.parts if part.type.startswith("tool-")]
    assert len(sent) == 2 and len({part.call_id for part in sent}) == 1
    assert all(TAKEN.match(part.name) and TAKEN.match(part.call_id) for part in sent)
