"""Through a real run: what a tool is given, and an output is, is what is stored, shown, digested and approved."""

from __future__ import annotations

import json
import logging
from datetime import date
from decimal import Decimal
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, BeforeValidator, Field

from agentcore import SYSTEM, Checkable, tool
from agentcore.exceptions import Invalid
from agentcore.models import Approval, Run, ToolCall
from agentcore.services import approvals
from agentcore.testing import Turn
from agentcore.values import jsontext
from agentcore.web.schemas import ApprovalOut
from tests.integration.decision_room import result_of
from tests.integration.room import drive_to_the_end, log, make, only_approval

pytestmark = pytest.mark.django_db
GIVEN: list[Any] = []
BIG = 2**53 + 1


@pytest.fixture(autouse=True)
def _nothing_given() -> None:
    GIVEN.clear()


def cents(euros: Any) -> int:
    return int(euros) * 100


class Address(BaseModel):
    zip_code: str = Field(alias="zipCode")
    floor: int = Field(0, alias="theFloor")


@tool(needs_approval=True)
def post(to: Address, on: date, amount: Decimal, big: int, city: str = Field("Bern", alias="theCity")) -> str:
    """Post."""
    GIVEN.append((to, on, amount, big, city))
    return "posted"


SAID = {"to": {"zipCode": "8000"}, "on": "2026-01-02", "amount": 0.1, "big": BIG}
STORED = {
    "to": {"zipCode": "8000", "theFloor": 0}, "on": "2026-01-02", "amount": "0.1", "big": BIG, "theCity": "Bern",
}  # fmt: skip


@pytest.mark.covers("fc:A3", "fc:B8")
def test_a_tool_is_given_what_was_shown_and_approved():
    room = make([Turn(calls=[("post", SAID)]), Turn(text="Done.")], [post])
    run = room.play()
    approval = only_approval(run)
    call = approval.tool_call
    shown = {
        event["type"]: event["arguments"] for event in log(run) if event["type"] in ("tool.call", "approval.request")
    }
    assert shown == {"tool.call": STORED, "approval.request": STORED}
    assert call.arguments_json == STORED == approval.arguments_json == ApprovalOut.of(approval).arguments
    bound = (str(run.pk), call.call_id, "post", post.schema_digest, call.arguments)
    assert approval.digest == call.digest == jsontext.digest(*bound)
    approvals.approve(approval, user=SYSTEM, digest=approval.digest)
    assert drive_to_the_end(run).status == "succeeded"
    assert GIVEN == [(Address(zipCode="8000"), date(2026, 1, 2), Decimal("0.1"), BIG, "Bern")]
    (said,) = [part for item in room.model.requests[1].messages for part in item.parts if part.type == "tool-call"]
    assert said.arguments == STORED


@pytest.mark.covers("fc:A2")
@pytest.mark.parametrize("gated", [True, False, lambda arguments, ctx: True], ids=["approval", "none", "asked"])
def test_a_call_whose_body_would_be_given_something_else_neither_asks_nor_runs(gated, caplog):
    @tool(needs_approval=gated)
    def pay(amount: Annotated[int, BeforeValidator(cents)]) -> None:
        """Pay."""
        GIVEN.append(amount)

    room = make([Turn(calls=[("pay", {"amount": 5})]), Turn(text="Sorry.")], [pay])
    with caplog.at_level(logging.ERROR):
        run = room.play()
    assert run.status == "succeeded" and GIVEN == []
    assert not Approval.objects.exists()
    call = ToolCall.objects.get()
    assert (call.status, call.tries, call.arguments_json) == ("failed", 0, {"amount": 5})
    told = result_of(room)
    assert told.status == "failed" and "mistake in its tool pay" in told.error and "500" not in told.error
    (record,) = [item for item in caplog.records if getattr(item, "action", "") == "arguments_not_kept"]
    assert "amount is another one" in record.getMessage() and record.run_id == str(run.pk)
    assert told.error.split("reference ")[1][:8] in record.getMessage()


@pytest.mark.covers("fc:A2")
def test_a_validator_that_breaks_is_the_developers_mistake():
    @tool(effect="pure")
    def find(name: Annotated[str, BeforeValidator(lambda text: {}[text])]) -> None:
        """Find."""

    room = make([Turn(calls=[("find", {"name": "x"})]), Turn(text="Sorry.")], [find])
    assert room.play().status == "succeeded"
    assert "mistake in its tool find" in result_of(room).error


@pytest.mark.covers("fc:A2")
def test_an_edit_that_would_be_given_otherwise_decides_nothing():
    @tool(needs_approval=True)
    def pay(amount: Annotated[int, BeforeValidator(lambda value: value * 2 if value > 10 else value)]) -> None:
        """Pay."""

    run = make([Turn(calls=[("pay", {"amount": 5})])], [pay]).play()
    approval = only_approval(run)
    with pytest.raises(Invalid, match="cannot take these arguments"):
        approvals.approve(approval, user=SYSTEM, digest=approval.digest, edited_arguments={"amount": 50})
    assert only_approval(run).status == "pending"


@pytest.mark.covers("fc:A2")
def test_what_a_tool_reads_otherwise_since_a_deploy_does_not_run(caplog):
    """The JSON Schema is the same, so nothing else would notice."""

    @tool(needs_approval=True)
    def pay(amount: int) -> None:
        """Pay."""
        GIVEN.append(amount)

    room = make([Turn(calls=[("pay", {"amount": 5})]), Turn(text="Sorry.")], [pay])
    run = room.play()
    approval = only_approval(run)
    approvals.approve(approval, user=SYSTEM, digest=approval.digest)

    @tool(name="pay", needs_approval=True)
    def pays_hundredfold(amount: Annotated[int, BeforeValidator(cents)]) -> None:
        """Pay."""
        GIVEN.append(amount)

    room.agent.definition.tools_by_name["pay"] = pays_hundredfold  # type: ignore[index]
    assert drive_to_the_end(run).status == "succeeded" and GIVEN == []
    assert result_of(room).error == "The tool does not take these arguments any more."


@pytest.mark.covers("fc:A3")
def test_a_check_and_the_question_for_an_approval_get_the_stored_arguments():
    asked: list[Any] = []

    def needs(arguments: Any, ctx: Any) -> bool:
        asked.append(json.loads(json.dumps(arguments)))
        arguments.clear()  # what it does to them is nobody's business
        return False

    @tool(needs_approval=needs, effect=Checkable(lambda arguments, ctx: asked.append(dict(arguments))))
    def find(zip_code: str = Field(alias="zipCode"), on: date = date(2026, 1, 2)) -> None:
        """Find."""
        GIVEN.append((zip_code, on))
        raise ValueError

    run = make([Turn(calls=[("find", {"zipCode": "1"})]), Turn(text="Done.")], [find]).play()
    assert run.status in ("succeeded", "waiting") and GIVEN == [("1", date(2026, 1, 2))]
    assert asked[0] == {"zipCode": "1", "on": "2026-01-02"} and all(seen == asked[0] for seen in asked)


# --- structured output ------------------------------------------------------------------------------------------


class Answer(BaseModel):
    total: int = Field(alias="theTotal")
    names: list[str] = Field(default=["nobody"], alias="theNames")
    on: date | None = None
    tags: set[str] = set()


@pytest.mark.covers("fc:A3", "fc:B8")
@pytest.mark.parametrize("total", [BIG, -(2**70), 10**400, 3], ids=["big", "bigger", "digits", "small"])
def test_an_output_is_stored_as_it_is_declared(total):
    room = make([Turn(output={"theTotal": total, "on": "2026-01-02", "tags": ["b", "a"]})], output=Answer)
    run = Run.objects.get(pk=room.play().pk)
    assert run.status == "succeeded", run.error_message
    assert run.output == {"theTotal": total, "theNames": ["nobody"], "on": "2026-01-02", "tags": ["a", "b"]}
    assert type(run.output["theTotal"]) is int
    assert Answer.model_validate(run.output).total == total
    (event,) = [event for event in log(run) if event["type"] == "output"]
    assert event["value"] == run.output
    assert set(room.model.requests[0].output_schema["properties"]) == {"theTotal", "theNames", "on", "tags"}


@pytest.mark.covers("fc:A2")
def test_an_output_that_would_be_read_as_another_one_is_the_developers_mistake():
    class Doubled(BaseModel):
        amount: Annotated[int, BeforeValidator(cents)]

    run = make([Turn(output={"amount": 5})], output=Doubled).play()
    assert (run.status, run.error_code, run.output) == ("failed", "value_not_kept", None)
    assert "amount is another one" in run.error_detail
