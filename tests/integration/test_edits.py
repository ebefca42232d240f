"""An edit: the call stays as the model said it, its result says what ran, who changed it and why."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentcore import SYSTEM, Tool, ToolCallPart, ToolResultPart, tool
from agentcore.engine.runtime import Runtime
from agentcore.exceptions import Invalid, NotKept
from agentcore.models import Message, ToolCall
from agentcore.services import approvals, execution, messages
from agentcore.testing import Turn
from agentcore.web.schemas import MessageOut, RunOut
from tests.integration.room import Room, drive_to_the_end, fresh, log, make, only_approval

pytestmark = [pytest.mark.django_db, pytest.mark.covers("fc:A8")]
SENT: list[tuple[str, set[str]]] = []


@pytest.fixture(autouse=True)
def _nothing_sent():
    SENT.clear()


@tool(needs_approval=True)
def mail(to: str, tags: set[str] = frozenset({"b", "a", "c"})) -> str:  # type: ignore[assignment]
    """Mail somebody."""
    SENT.append((to, tags))
    if to == "nobody":
        raise ValueError
    return f"mailed {to}"


TAGS = ["a", "b", "c"]


def asking() -> tuple[Room, Any]:
    room = make([Turn(calls=[("mail", {"to": "bob"})]), Turn(text="Done.")], [mail])
    return room, room.play()


def decided(user: Any, edit: dict[str, Any], reason: str = "Bob has left.") -> Room:
    room, run = asking()
    approval = only_approval(run)
    approvals.approve(approval, user=user, digest=approval.digest, reason=reason, edited_arguments=edit)
    drive_to_the_end(run)
    return room


def said(room: Room, kind: type[Any]) -> Any:
    (found,) = [part for item in room.model.requests[-1].messages for part in item.parts if isinstance(part, kind)]
    return found


def test_the_model_reads_its_own_call_and_what_ran_instead(operator):
    room = decided(operator, {"to": "alice"})
    assert SENT == [("alice", {"a", "b", "c"})]
    assert said(room, ToolCallPart).arguments == {"to": "bob", "tags": TAGS}
    result = said(room, ToolResultPart)
    edited = {"arguments": {"to": "alice", "tags": TAGS}, "by": operator.username, "reason": "Bob has left."}
    assert (result.status, result.result, result.edited) == ("succeeded", "mailed alice", edited)
    assert result.told() == {
        "status": "succeeded", "result": "mailed alice", "arguments": edited["arguments"], "reason": "Bob has left.",
        "note": f"Not your arguments: {operator.username} approved this call with the ones given here.",
    }  # fmt: skip


def test_both_are_shown_wherever_the_call_is(operator, client):
    decided(operator, {"to": "alice"})
    call = ToolCall.objects.get()
    run = call.run
    assert call.arguments_json["to"] == "alice" and call.edit["asked"]["to"] == "bob"
    by_type = {event["type"]: event for event in log(run)}
    assert by_type["tool.call"]["arguments"]["to"] == "bob"
    assert by_type["tool.result"]["edited"] == call.edited and call.edited["arguments"]["to"] == "alice"
    (approval,) = RunOut.of(run, SYSTEM).approvals
    assert (approval.arguments["to"], approval.edited_arguments["to"]) == ("bob", "alice")
    parts = [part for item in Message.objects.filter(run=run) for part in MessageOut.of(item).parts]
    assert [part["arguments"]["to"] for part in parts if part["type"] == "tool-call"] == ["bob"]
    assert [part["edited"] for part in parts if part["type"] == "tool-result"] == [call.edited]
    operator.is_superuser = True
    operator.save()
    client.force_login(operator)
    page = client.get(f"/admin/agentcore/run/{run.pk}/change/").content.decode()
    assert "Arguments, as asked" in page and f"Arguments, as changed by {operator.username}" in page
    assert "bob" in page and "alice" in page


@pytest.mark.parametrize("reason", ["", "é" * 2000], ids=["without", "with"])
def test_a_page_counts_what_is_said_of_an_edit(operator, settings, reason):
    room = decided(operator, {"to": "alice"}, reason)
    said = messages.list_(room.thread, user=SYSTEM, limit=2)
    assert [message.author_kind for message in said.messages] == ["tool", "agent"]
    settings.AGENTCORE = {**settings.AGENTCORE, "PAGE_LIMIT": 3000}
    page = messages.list_(room.thread, user=SYSTEM, limit=2)
    assert len(page.messages) == (1 if reason else 2)


@pytest.mark.parametrize("edit", [{"to": "bob"}, {"to": "bob", "tags": ["c", "b", "a"]}])
def test_an_edit_that_changes_nothing_is_none(operator, edit):
    room = decided(operator, edit)
    assert ToolCall.objects.get().edit is None and said(room, ToolResultPart).edited is None
    assert "note" not in said(room, ToolResultPart).told()


@pytest.mark.parametrize("edit", [[["to", "alice"]], "alice", 3])
def test_an_edit_that_is_no_object_decides_nothing(operator, edit):
    _, run = asking()
    approval = only_approval(run)
    with pytest.raises(Invalid, match="must be an object"):
        approvals.approve(approval, user=operator, digest=approval.digest, edited_arguments=edit)
    assert only_approval(run).status == "pending"


def test_a_call_without_an_edit_says_nothing_of_one(operator):
    room, run = asking()
    approval = only_approval(run)
    approvals.approve(approval, user=operator, digest=approval.digest)
    drive_to_the_end(run)
    assert said(room, ToolResultPart).edited is None
    assert "edited" not in next(event for event in log(run) if event["type"] == "tool.result")


def test_what_fails_after_an_edit_says_what_was_tried(operator):
    room, run = asking()
    approval = only_approval(run)
    approvals.approve(approval, user=operator, digest=approval.digest, edited_arguments={"to": "nobody"})
    execution.drive(run.pk, Runtime("worker", inline=True))
    if fresh(run).status == "waiting":  # an approved unsafe call that broke off
        room.agent.tools.resolve(run, ToolCall.objects.get().call_id, answer="give_up", user=SYSTEM)
        drive_to_the_end(run)
    told = said(room, ToolResultPart).told()
    assert told["status"] == "failed" and told["arguments"]["to"] == "nobody" and "reason" not in told


def test_an_edit_that_is_taken_back_after_a_deploy_is_none(operator):
    room, run = asking()
    approval = only_approval(run)
    approvals.approve(approval, user=operator, digest=approval.digest, edited_arguments={"to": "alice"})

    @tool(name="mail", needs_approval=True)
    def mails(to: str, tags: set[str] = frozenset()) -> str:  # type: ignore[assignment]
        """Mail."""
        return f"mailed {to}"

    room.agent.definition.tools_by_name["mail"] = mails  # type: ignore[index]
    execution.drive(run.pk, Runtime("worker", inline=True))
    again = only_approval(run)
    approvals.approve(again, user=SYSTEM, digest=again.digest, edited_arguments={"to": "bob", "tags": TAGS})
    drive_to_the_end(run)
    assert ToolCall.objects.get().arguments_json == said(room, ToolCallPart).arguments
    assert said(room, ToolResultPart).edited is None


def test_an_edit_stays_known_when_a_deploy_has_the_call_asked_again(operator):
    room, run = asking()
    approval = only_approval(run)
    approvals.approve(approval, user=operator, digest=approval.digest, edited_arguments={"to": "alice"})

    @tool(name="mail", needs_approval=True)
    def mails(to: str, tags: set[str] = frozenset(), urgent: bool = False) -> str:  # type: ignore[assignment]
        """Mail."""
        SENT.append((to, tags))
        return f"mailed {to}"

    room.agent.definition.tools_by_name["mail"] = mails  # type: ignore[index]
    execution.drive(run.pk, Runtime("worker", inline=True))
    again = only_approval(run)
    assert again.arguments_json == {"to": "alice", "tags": TAGS, "urgent": False}
    approvals.approve(again, user=SYSTEM, digest=again.digest)
    drive_to_the_end(run)
    edited = said(room, ToolResultPart).edited
    assert edited["arguments"] == json.loads(again.arguments) and edited["by"] == operator.username


UNKEPT: dict[str, tuple[Any, str]] = {
    "not finite": (float("nan"), "a number that is not finite"),
    "endless digits": (1 << 20_000, "a number of too many digits"),
    "zero byte": ("a\x00", "a text with a zero byte or half a character"),
    "half a character": (["\ud83d"], "a text with a zero byte or half a character"),
    "a key with a zero byte": ({"\x00": 1}, "a text with a zero byte or half a character"),
    "no JSON": ({"a": {1, 2}}, "an object of type set"),
    "a key that is no text": ({1: 2}, "a key that is no text"),
}


@pytest.mark.parametrize(("given", "said"), UNKEPT.values(), ids=UNKEPT)
def test_an_edit_that_would_not_be_stored_as_it_is_says_why(operator, given, said):
    _, run = asking()
    approval = only_approval(run)
    with pytest.raises(Invalid) as refused:
        approvals.approve(approval, user=operator, digest=approval.digest, edited_arguments={"to": given})
    assert said in refused.value.message and "2**53" not in refused.value.message
    assert only_approval(run).status == "pending"


def test_an_edit_that_is_nested_too_deeply_says_so(operator):
    deep: Any = "bottom"
    for _ in range(100):
        deep = [deep]
    _, run = asking()
    approval = only_approval(run)
    with pytest.raises(Invalid, match="deeper than 60"):
        approvals.approve(approval, user=operator, digest=approval.digest, edited_arguments={"to": deep})


def test_a_tuple_is_a_list_and_an_integer_of_any_size_is_kept(operator):
    @tool(name="mail", needs_approval=True)
    def adds(to: str, numbers: list[int] = []) -> str:  # noqa: B006 - a default of a tool
        """Add."""
        return str(sum(numbers))

    room = make([Turn(calls=[("mail", {"to": "bob"})]), Turn(text="Done.")], [adds])
    run = room.play()
    approval = only_approval(run)
    edit = {"to": "alice", "numbers": (2**70, 1)}
    approvals.approve(approval, user=operator, digest=approval.digest, edited_arguments=edit)
    drive_to_the_end(run)
    assert ToolCall.objects.get().result_json == str(2**70 + 1)


def test_an_approver_reads_no_advice_for_developers(operator, monkeypatch, caplog):
    _, run = asking()
    approval = only_approval(run)

    def unkept(self: Any, raw: Any) -> Any:
        raise NotKept(
            "Tool mail: a value is another one when it is read again. Declare a type that reads what it writes."
        )

    monkeypatch.setattr(Tool, "validate", unkept)
    with pytest.raises(Invalid) as refused:
        approvals.approve(approval, user=operator, digest=approval.digest, edited_arguments={"to": "alice"})
    assert "cannot take these arguments" in refused.value.message and "Declare" not in refused.value.message
    (noted,) = [item for item in caplog.records if getattr(item, "action", "") == "arguments_not_kept"]
    assert "Declare a type" in noted.getMessage() and noted.run_id == str(run.pk)
    assert only_approval(run).status == "pending"
