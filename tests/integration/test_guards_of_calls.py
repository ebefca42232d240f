"""A guard judges each call when it is recorded, and again right before it runs: what it denies never runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from agentcore import (
    SYSTEM,
    Ask,
    Deny,
    Guard,
    ProposedCall,
    Redact,
    RunContext,
    Tool,
    ToolContext,
    ToolResultPart,
    ToolSource,
    tool,
)
from agentcore.engine.runtime import Runtime
from agentcore.models import Approval, Run, ToolCall
from agentcore.services import approvals, execution, runs, unverified
from agentcore.testing import Evidence, Turn, check_invariants
from agentcore.testing.faults.plans import armed
from agentcore.web.schemas import RunOut
from tests.integration.room import (
    Died,
    Room,
    approve,
    assert_ended_once,
    drive_as_worker,
    drive_to_the_end,
    fresh,
    lapse,
    log,
    make,
    only_approval,
    only_event,
)

pytestmark = pytest.mark.django_db(transaction=True)

RAN: list[Any] = []
PAYS = Turn(calls=[("pay", {"amount": 100})])
DONE = Turn(text="Done.")
NO = Deny("Payments are closed today. Tell the customer.", "payments_closed")


@pytest.fixture(autouse=True)
def _sound() -> Iterator[None]:
    """Nothing has run yet; afterwards every run is as the laws will have it."""
    RAN.clear()
    Died.raised = False
    yield
    assert [*check_invariants(list(Run.objects.values_list("pk", flat=True)), Evidence(calm=False))] == []


def paying(**options: Any) -> Tool:
    @tool(name="pay", **options)
    def pay(amount: int) -> str:
        """Pay."""
        RAN.append(amount)
        return f"paid {amount}"

    return pay


class Judge:
    """A guard that gives the verdicts it was made with, one after the other, and keeps the calls it was asked about."""

    def __init__(self, *verdicts: Any) -> None:
        self.verdicts = list(verdicts)
        self.asked: list[ProposedCall] = []
        self.about: list[RunContext] = []
        self.saw: list[str] = []

    def __call__(self, call: ProposedCall, about: RunContext) -> Any:
        self.asked.append(call)
        self.about.append(about)
        recorded = ToolCall.objects.filter(call_id=call.call_id).first()
        self.saw.append(recorded.status if recorded else "nothing")
        return self.verdicts[len(self.asked) - 1] if len(self.asked) <= len(self.verdicts) else None


def room_of(judge: Callable[..., Any], *turns: Turn, tools: list[Any] | None = None) -> Room:
    return make(list(turns) or [PAYS, DONE], tools or [paying()], guards=[Guard(before_tool=judge)])


def played(room: Room) -> Run:
    run = room.send()
    drive_as_worker(run)
    return fresh(run)


def go_on(run: Run) -> Run:
    drive_as_worker(run)
    return fresh(run)


def told(room: Room) -> ToolResultPart:
    """The one result that the model was told last."""
    parts = [part for message in room.model.requests[-1].messages for part in message.parts]
    (result,) = [part for part in parts if isinstance(part, ToolResultPart)]
    return result


# --- denied -------------------------------------------------------------------------------------------------------


def test_a_call_that_a_guard_denies_never_runs_and_the_model_reads_why() -> None:
    judge = Judge(NO)
    room = room_of(judge)
    run = played(room)
    assert run.status == "succeeded" and RAN == []
    assert (told(room).status, told(room).error) == ("denied", NO.reason)
    call = ToolCall.objects.get(run=run)
    assert (call.status, call.error, call.error_code, call.tries) == ("denied", NO.reason, NO.code, 0)
    result = only_event(run, "tool.result")
    assert (result["status"], result["error"], result["code"]) == ("denied", NO.reason, NO.code)
    (shown,) = RunOut.of(run, SYSTEM).calls
    assert (shown.status, shown.error, shown.code) == ("denied", NO.reason, NO.code)
    assert not Approval.objects.exists()


def test_a_call_is_judged_when_it_is_recorded_and_again_before_its_start_is_committed() -> None:
    judge = Judge()
    run = played(room_of(judge))
    assert run.status == "succeeded" and RAN == [100]
    assert judge.saw == ["nothing", "pending"], "what is staged is written before it is asked again"
    first, second = judge.asked
    assert first == second == ProposedCall(run.tool_calls.get().call_id, "pay", {"amount": 100}, "unsafe")
    assert [about.run_id for about in judge.about] == [run.pk, run.pk]


def test_a_call_that_is_denied_right_before_it_runs_never_runs() -> None:
    room = room_of(Judge(None, NO))
    run = played(room)
    assert run.status == "succeeded" and RAN == []
    assert told(room).status == "denied" and run.tool_calls.get().error_code == NO.code


def test_a_denied_call_leaves_the_others_of_its_step_alone() -> None:
    def judge(call: ProposedCall, about: RunContext) -> Any:
        return NO if call.arguments["amount"] > 50 else None

    room = room_of(judge, Turn(calls=[("pay", {"amount": 100}), ("pay", {"amount": 1})]), DONE)
    assert played(room).status == "succeeded" and RAN == [1]
    assert sorted(ToolCall.objects.values_list("status", flat=True)) == ["denied", "succeeded"]


def test_a_guard_judges_the_arguments_that_would_run_and_not_those_that_were_sent() -> None:
    judge = Judge()
    played(room_of(judge, Turn(calls=[("pay", {"amount": "100"})]), DONE))
    assert [call.arguments for call in judge.asked] == [{"amount": 100}] * 2


def test_no_guard_is_asked_about_a_call_that_is_at_fault_already() -> None:
    judge = Judge()
    run = played(room_of(judge, Turn(calls=[("pay", {"amount": "much"}), ("unknown", {})]), DONE))
    assert run.status == "succeeded" and judge.asked == []
    assert set(ToolCall.objects.values_list("status", "error_code")) == {("failed", "")}


def test_the_first_guard_that_denies_decides_and_a_denial_goes_before_a_question() -> None:
    asks, denies, last = Judge(Ask("Why?")), Judge(NO), Judge(Deny("Never read."))
    guards = [Guard(before_tool=asks), Guard(before_tool=denies), Guard(before_tool=last)]
    run = played(make([PAYS, DONE], [paying()], guards=guards))
    assert run.status == "succeeded" and RAN == [] and last.asked == []
    assert run.tool_calls.get().error_code == NO.code and not Approval.objects.exists()


def test_a_tool_that_was_chosen_by_run_is_judged_too() -> None:
    room = room_of(Judge(NO), tools=[ToolSource(lambda about: [paying()])])
    assert played(room).status == "succeeded" and RAN == []


def test_a_call_that_a_redacted_answer_keeps_is_judged() -> None:
    guard = Guard(after_answer=lambda answer, about: Redact("", keep_calls=True), before_tool=Judge(NO))
    run = played(make([PAYS, Turn(text="Done.", calls=[])], [paying()], guards=[guard]))
    assert RAN == [] and run.tool_calls.get().status == "denied"


def test_operators_read_a_guards_code_and_why_it_asks(admin_client: Client) -> None:
    run = played(room_of(Judge(NO, Ask("It is <b>a lot</b>.")), Turn(calls=[("pay", {"amount": 1})] * 2)))
    page = admin_client.get(reverse("admin:agentcore_run_change", args=[run.pk])).content.decode()
    assert f"<code>{NO.code}</code>" in page and NO.reason in page
    approval = only_approval(run)
    page = admin_client.get(reverse("admin:agentcore_approval_change", args=[approval.pk])).content.decode()
    assert "It is &lt;b&gt;a lot&lt;/b&gt;." in page


# --- asked about --------------------------------------------------------------------------------------------------


def test_a_call_that_a_guard_asks_about_waits_for_a_person_and_runs_once_they_agree() -> None:
    judge = Judge(Ask("It is a large amount."), Ask("It still is."))
    room = room_of(judge)
    run = played(room)
    assert run.status == "waiting" and RAN == []
    approval = only_approval(run)
    assert approval.because == "It is a large amount."
    request = only_event(run, "approval.request")
    assert request["because"] == approval.because
    assert RunOut.of(run, SYSTEM).approvals[0].because == approval.because
    approve(run)
    assert go_on(run).status == "succeeded" and RAN == [100]
    assert [call.approved for call in judge.asked] == [False, True]
    assert fresh(approval).consumed_at is not None


def test_a_call_that_a_person_denied_is_denied() -> None:
    room = room_of(Judge(Ask("It is a large amount.")))
    run = played(room)
    approval = only_approval(run)
    approvals.deny(approval, user=SYSTEM, digest=approval.digest)
    assert go_on(run).status == "succeeded" and RAN == []
    assert told(room).status == "denied" and run.tool_calls.get().error_code == ""


def test_a_guard_denies_a_call_though_a_person_has_approved_it() -> None:
    judge = Judge(Ask("It is a large amount."), NO)
    room = room_of(judge)
    run = played(room)
    approve(run)
    assert go_on(run).status == "succeeded" and RAN == []
    assert judge.asked[-1].approved and told(room).error == NO.reason


def test_a_guard_denies_a_call_of_a_tool_that_needs_an_approval_though_a_person_has_given_it() -> None:
    room = room_of(Judge(None, NO), tools=[paying(needs_approval=True)])
    run = played(room)
    assert only_approval(run).because == ""
    approve(run)
    assert go_on(run).status == "succeeded" and RAN == []


def test_a_guard_judges_what_a_person_has_made_of_the_arguments() -> None:
    def judge(call: ProposedCall, about: RunContext) -> Any:
        return NO if call.arguments["amount"] > 100 else Ask("It is an amount.")

    room = room_of(judge)
    run = played(room)
    approval = only_approval(run)
    approvals.approve(approval, user=SYSTEM, digest=approval.digest, edited_arguments={"amount": 101})
    assert go_on(run).status == "succeeded" and RAN == []
    assert told(room).error == NO.reason


def test_a_guard_that_asks_when_the_call_is_about_to_run_makes_it_wait_then() -> None:
    room = room_of(Judge(None, Ask("It has become a large amount.")))
    run = played(room)
    assert run.status == "waiting" and RAN == []
    assert only_approval(run).because == "It has become a large amount."
    approve(run)
    assert go_on(run).status == "succeeded" and RAN == [100]
    assert Approval.objects.get().consumed_at is not None


def test_a_cancel_ends_a_call_that_a_guard_has_asked_about() -> None:
    run = played(room_of(Judge(Ask("It is a large amount."))))
    runs.cancel(run, user=SYSTEM)
    assert_ended_once(run, "canceled")
    assert RAN == []


# --- taken over ---------------------------------------------------------------------------------------------------


def dies_inside_its_tool(judge: Judge, effect: str) -> Run:
    """A run whose worker has died in its tool, after the effect."""

    @tool(name="pay", effect=effect)
    def pay(ctx: ToolContext, amount: int) -> str:
        """Pay, and take the worker along the first time."""
        RAN.append(amount)
        if len(RAN) == 1:
            raise Died
        return "paid"

    run = make([PAYS, DONE], [pay], guards=[Guard(before_tool=judge)]).send()
    with armed(after_tool_return=Died.at_the_next_point):
        execution.drive(run.pk, Runtime("doomed", inline=True))
    lapse(run)
    return run


@pytest.mark.parametrize(
    ("effect", "run_status", "call_status"),
    [("pure", "succeeded", "denied"), ("idempotent", "waiting", "effect_unverified")],
)
def test_whoever_takes_a_call_over_asks_again(effect: str, run_status: str, call_status: str) -> None:
    judge = Judge(None, None, NO)
    run = dies_inside_its_tool(judge, effect)
    assert drive_to_the_end(run).status == run_status
    call = ToolCall.objects.get(run=run)
    assert (call.status, RAN, len(judge.asked)) == (call_status, [100], 3)
    assert NO.reason in call.error, "what its first try did stands, and nobody says that it was denied"


def test_a_call_that_has_begun_runs_again_though_a_guard_would_ask_now() -> None:
    run = dies_inside_its_tool(Judge(None, None, Ask("It is a large amount.")), "idempotent")
    assert drive_to_the_end(run).status == "succeeded" and RAN == [100, 100]


def test_a_call_that_has_left_nothing_behind_waits_where_a_guard_asks_now() -> None:
    run = dies_inside_its_tool(Judge(None, None, Ask("It is a large amount.")), "pure")
    assert drive_to_the_end(run).status == "waiting" and RAN == [100]
    approve(run)
    assert drive_to_the_end(run).status == "succeeded" and RAN == [100, 100]
    assert Approval.objects.get().consumed_at is not None


def test_a_call_that_a_person_has_run_again_is_judged_again() -> None:
    run = dies_inside_its_tool(Judge(None, None, NO), "unsafe")
    assert drive_to_the_end(run).status == "waiting"
    unverified.resolve(run, run.tool_calls.get().call_id, "run_again", user=SYSTEM)
    assert drive_to_the_end(run).status == "waiting" and RAN == [100]
    assert NO.reason in run.tool_calls.get().error


def test_a_worker_that_dies_in_a_guard_has_run_nothing_and_the_next_one_asks_again() -> None:
    asked = []

    def judge(call: ProposedCall, about: RunContext) -> None:
        asked.append(about.attempt)
        if len(asked) == 2:
            raise Died

    room = room_of(judge)
    run = room.send()
    with armed(before_finish=Died.at_the_next_point):
        execution.drive(run.pk, Runtime("doomed", inline=True))
    assert Died.raised and RAN == [] and run.tool_calls.get().status == "pending"
    lapse(run)
    assert drive_to_the_end(run).status == "succeeded" and RAN == [100]
    assert asked == [1, 1, 2] and len(room.model.requests) == 2


# --- at fault -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [1, 2], ids=["when it is recorded", "when it is about to run"])
@pytest.mark.parametrize("given", [True, False, "no", object(), Redact("x"), Deny])
def test_a_verdict_that_is_none_ends_the_run_and_runs_nothing(given: Any, place: int) -> None:
    run = played(room_of(Judge(*[None] * (place - 1), given)))
    assert_ended_once(run, "failed")
    assert run.error_code == "user_error" and "Deny(…)" in run.error_detail and RAN == []


@pytest.mark.parametrize("place", [1, 2], ids=["when it is recorded", "when it is about to run"])
@pytest.mark.parametrize("kind", ["raises", "hangs", "hangs_async"])
def test_a_guard_that_raises_or_is_late_ends_the_run_and_runs_nothing(kind: str, place: int, settings: Any) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "TOOL_TIMEOUT": 0.2}
    asked = []

    def raises(call: ProposedCall, about: RunContext) -> None:
        asked.append(call)
        if len(asked) == place:
            raise KeyError("secret")

    def hangs(call: ProposedCall, about: RunContext) -> None:
        asked.append(call)
        if len(asked) == place:
            time.sleep(1)

    async def hangs_async(call: ProposedCall, about: RunContext) -> None:
        asked.append(call)
        if len(asked) == place:
            await asyncio.sleep(30)

    run = played(room_of({"raises": raises, "hangs": hangs, "hangs_async": hangs_async}[kind]))
    assert_ended_once(run, "failed")
    assert run.error_code == "guard_failed" and "secret" not in str(log(run)) and RAN == []
    assert set(run.tool_calls.values_list("status", flat=True)) <= {"canceled"}
