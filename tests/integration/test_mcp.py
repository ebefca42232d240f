"""Tools of MCP servers: what an agent is given, what it sends, and what becomes of the answer."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentcore import SYSTEM
from agentcore.declaration import registry
from agentcore.exceptions import Invalid
from agentcore.mcp import Rule, mcp_tools
from agentcore.models import ToolCall
from agentcore.services import approvals
from agentcore.testing import Turn, run_until_idle
from tests.integration.mcp_room import KINDS, Place, place
from tests.integration.room import approve, log, make, only_approval

pytestmark = [pytest.mark.once, pytest.mark.django_db]


@pytest.fixture(params=KINDS)
def there(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A server of each kind."""
    with place(request.param, tmp_path) as found:
        yield found


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Place]:
    """A server that is started by whoever asks it."""
    with place("stdio", tmp_path) as found:
        yield found


def playing(there, *calls, **options):
    """A room whose model asks for these calls at once, and then is done."""
    return make([Turn(calls=calls), Turn("Done.")], [mcp_tools(there.server, **options)])


def calls_of(run):
    return list(ToolCall.objects.filter(run=run).order_by("position"))


def test_a_call_goes_to_its_server_and_its_result_to_the_model(there):
    room = playing(there, ("search", {"query": "parcel", "limit": 2}), ("nothing", {"value": [None, 1.5, {"a": None}]}))
    run = room.play()
    search, nothing = calls_of(run)
    assert (search.status, search.result_json) == ("succeeded", {"found": ["parcel 0", "parcel 1"]})
    assert nothing.result_json == "[None, 1.5, {'a': None}]"  # what is stored is what it was given
    assert sorted(there.notes) == ["nothing [None, 1.5, {'a': None}]", "search parcel 2"]
    assert run.status == "succeeded" and len(there.pids) == 1


def test_the_model_is_told_of_the_tools_as_their_server_describes_them(here):
    room = playing(here, prefix="crm")
    room.play()
    told = {tool.name: tool for tool in room.model.requests[0].tools}
    assert told["crm_search"].description == "Look something up."
    assert told["crm_search"].parameters["properties"]["query"] == {"title": "Query", "type": "string"}
    assert "crm_odd_name__" in told and "crm_slow" in told
    assert [tool.name for tool in room.model.requests[1].tools] == [*told]


def test_pictures_errors_and_progress_are_data_and_what_a_server_asks_for_is_refused(there):
    names = "picture", "fails", "steps", "odd_name__", "ask", "refuse"
    wanted = [(name, {"why": "there is no such parcel"} if name == "fails" else {}) for name in names]
    run = playing(there, *wanted).play()
    picture, fails, steps, odd, ask, refuse = calls_of(run)
    assert picture.result_json == [{"type": "image", "mime_type": "image/png", "bytes": 100}]
    assert fails.status == "failed" and "there is no such parcel" in fails.error
    assert steps.result_json == "all" and odd.status == "succeeded"
    shown = [event["value"] for event in log(run) if event["type"] == "tool.progress"]
    assert shown[-1] == {"progress": 2, "total": 3, "message": "step 2"}
    assert ask.status == "failed" and ask.error
    assert refuse.status == "failed" and "It may have acted in part" in refuse.error
    assert there.notes.count("refuse") == 1


def test_an_error_of_a_call_that_a_person_approved_is_looked_into_by_one(tmp_path):
    with place("http", tmp_path) as there:
        run = playing(there, ("refuse", {}), needs_approval=True).play()
        approve(run)
        assert run_until_idle(run).status == "waiting"
    assert calls_of(run)[0].status == "effect_unverified" and there.notes == ["refuse"]


def test_arguments_that_do_not_fit_the_servers_schema_are_told_to_the_model_and_not_sent(here):
    (call,) = calls_of(playing(here, ("search", {"query": "parcel", "limit": "many"})).play())
    assert call.status == "failed"
    assert call.error == "The arguments of search are not valid: limit: 'many' is not of type 'integer'."
    assert here.notes == []


def test_a_tool_is_unsafe_unless_its_server_is_trusted_or_a_rule_says_otherwise(here):
    def effects(**options):
        wanted = ("search", {"query": "a"}), ("slow", {"text": "a"}), ("steps", {})
        with registry.isolated():
            return [call.effect for call in calls_of(playing(here, *wanted, **options).play())]

    here.go()
    assert effects() == ["unsafe", "unsafe", "unsafe"]
    assert effects(trust_annotations=True) == ["pure", "idempotent", "unsafe"]
    assert effects(trust_annotations=True, rules={"search": Rule(effect="idempotent")})[0] == "idempotent"
    assert effects(effect="idempotent", rules=lambda tool: Rule(effect="pure") if tool.name == "steps" else None) == [
        "idempotent",
        "idempotent",
        "pure",
    ]


def test_a_tool_that_a_rule_does_not_offer_is_not_there(here):
    room = playing(here, ("search", {"query": "a"}), rules=lambda tool: Rule(offered=tool.name == "steps"))
    run = room.play()
    assert [tool.name for tool in room.model.requests[0].tools] == ["steps"]
    assert calls_of(run)[0].error == "There is no tool called 'search'." and here.notes == []


def test_who_must_agree_is_said_for_all_tools_or_for_one_by_what_is_asked(here):
    def waits(needs_approval, rules=None):
        with registry.isolated():
            run = playing(here, ("search", {"query": "big"}), needs_approval=needs_approval, rules=rules).play()
        return run.status == "waiting"

    def is_big(arguments, ctx):
        return arguments["query"] == "big"

    assert waits(True) and waits(is_big)
    assert not waits(True, {"search": Rule(needs_approval=False)})
    assert waits(False, {"search": Rule(needs_approval=is_big)})
    assert here.notes == ["search big 3"]  # of the one that did not wait


@pytest.mark.parametrize("said", ["Look something up, and send it to everybody.", ""])
def test_a_tool_that_its_server_describes_otherwise_is_asked_for_again(said, here):
    run = playing(here, ("search", {"query": "parcel"}), needs_approval=True).play()
    first = only_approval(run)
    assert here.notes == []
    approve(run)
    here.describe(said)
    assert run_until_idle(run).status == "waiting"
    again = only_approval(run)
    assert again.digest != first.digest and again.arguments == first.arguments
    assert here.notes == []
    approve(run)
    assert run_until_idle(run).status == "succeeded" and here.notes == ["search parcel 3"]


def test_a_tool_that_changes_while_its_session_lasts_is_known_by_its_new_description(there):
    turns = [Turn(calls=[("change", {"text": "Look it up, now."})]), Turn(calls=[("steps", {})]), Turn("Done.")]
    room = make(turns, [mcp_tools(there.server)])
    room.play()
    told = [{tool.name: tool.description for tool in asked.tools}["search"] for asked in room.model.requests]
    assert told[0] == "Look something up." and told[-1] == "Look it up, now."
    assert len(there.pids) == 1


def test_edited_arguments_of_a_servers_tool_are_refused_with_a_way_out(here, operator):
    run = playing(here, ("search", {"query": "parcel"}), needs_approval=True).play()
    waiting = only_approval(run)
    assert waiting.allowed == ["approve", "deny"]
    with pytest.raises(Invalid, match="deny it and say why"):
        approvals.approve(waiting, user=SYSTEM, digest=waiting.digest, edited_arguments={"query": "all"})
    approvals.approve(waiting, user=SYSTEM, digest=waiting.digest)


def test_nothing_that_a_server_says_is_logged_at_info(here, caplog):
    caplog.set_level(logging.INFO)
    playing(here, ("search", {"query": "a secret"}), ("fails", {"why": "another secret"})).play()
    assert "secret" not in caplog.text and "Look something up" not in caplog.text
