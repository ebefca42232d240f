"""The engine, driven in this process: what a run logs, saves and returns."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from agentcore import Agent, Limits, ToolContext, ToolFailed, tool
from agentcore.access import SYSTEM
from agentcore.exceptions import ModelError
from agentcore.models import Message, Run, Step, ToolCall
from agentcore.states import MessageStatus, RunStatus, ToolCallStatus
from agentcore.testing import ScriptedModel, Turn, run_until_idle

pytestmark = pytest.mark.django_db


@tool(effect="pure")
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool(needs_approval=True)
def pay(ctx: ToolContext, cents: int) -> dict[str, object]:
    """Pay somebody."""
    PAID.append((ctx.call_id, cents))
    return {"paid": cents, "key": ctx.idempotency_key}


@tool
def broken() -> None:
    """Fail with a reason."""
    raise ToolFailed("The printer is on fire.")


@tool(effect="pure")
def buggy() -> None:
    """Fail without a reason."""
    raise ValueError("secret inside")


PAID: list[tuple[str, int]] = []


def make(turns, **options):
    model = ScriptedModel(turns)
    agent = Agent(name="test", model=model, tools=[add, pay, broken, buggy], **options)
    thread = agent.threads.create(user=SYSTEM)
    return agent, model, thread


def types(agent, run):
    return [event["type"] for event in agent.events.read(run, user=SYSTEM).events]


def test_a_run_streams_text_saves_the_message_and_ends_with_done():
    agent, model, thread = make([Turn(deltas=["Hel", "lo"])])
    run = run_until_idle(agent.runs.send(thread, "Hi", user=SYSTEM))
    assert run.status == RunStatus.SUCCEEDED
    events = agent.events.read(run, user=SYSTEM).events
    assert [event["seq"] for event in events] == list(range(len(events)))
    assert types(agent, run)[:3] == ["run.created", "run.started", "step.started"]
    assert types(agent, run)[-4:] == ["step.finished", "usage", "message", "done"]
    assert "".join(event["text"] for event in events if event["type"] == "text.delta") == "Hello"
    page = agent.messages.list(thread, user=SYSTEM).messages
    assert [(item.author_kind, item.text) for item in page] == [("user", "Hi"), ("agent", "Hello")]
    assert run.used.total_tokens == 15
    model.assert_finished()


def test_a_tool_runs_once_and_the_model_reads_its_result():
    agent, model, thread = make([Turn(calls=[("add", {"a": 2, "b": 3})]), Turn(text="5")])
    run = run_until_idle(agent.runs.send(thread, "2+3?", user=SYSTEM))
    assert run.status == RunStatus.SUCCEEDED
    last = model.requests[1].messages[-1]
    assert (last.author, last.parts[0].result) == ("tool", 5)
    assert ToolCall.objects.get().status == ToolCallStatus.SUCCEEDED
    assert Step.objects.filter(run=run).count() == 3


def test_an_approved_call_runs_with_the_recorded_arguments():
    PAID.clear()
    agent, model, thread = make([Turn(text="Asking.", calls=[("pay", {"cents": 500})]), Turn(text="Paid.")])
    run = run_until_idle(agent.runs.send(thread, "Pay", user=SYSTEM))
    assert run.status == RunStatus.WAITING and run.waiting_reasons() == ["approval"]
    assert PAID == []
    (approval,) = agent.tools.pending(user=SYSTEM)
    agent.tools.approve(approval, user=SYSTEM, digest=approval.digest)
    run.refresh_from_db()
    assert run.status == RunStatus.PENDING
    run = run_until_idle(run)
    assert run.status == RunStatus.SUCCEEDED
    assert [cents for _, cents in PAID] == [500]
    assert len(model.requests) == 2
    approval.refresh_from_db()
    assert approval.consumed_at is not None


def test_denied_tool_body_never_runs_and_the_model_reads_the_reason():
    PAID.clear()
    agent, model, thread = make([Turn(calls=[("pay", {"cents": 500})]), Turn(text="Denied.")])
    run = run_until_idle(agent.runs.send(thread, "Pay", user=SYSTEM))
    (approval,) = agent.tools.pending(user=SYSTEM)
    agent.tools.deny(approval, user=SYSTEM, digest=approval.digest, reason="Too much.")
    run = run_until_idle(run)
    assert run.status == RunStatus.SUCCEEDED and PAID == []
    part = model.requests[1].messages[-1].parts[0]
    assert part.status == "denied" and "Too much." in part.error


def test_a_step_may_mix_calls_that_run_at_once_and_calls_that_wait():
    PAID.clear()
    calls = [("add", {"a": 1, "b": 1}), ("pay", {"cents": 1}), ("pay", {"cents": 2}), ("add", {"a": 2, "b": 2})]
    agent, model, thread = make([Turn(calls=calls), Turn(text="Done.")])
    run = run_until_idle(agent.runs.send(thread, "Go", user=SYSTEM))
    assert run.status == RunStatus.WAITING
    assert ToolCall.objects.filter(status=ToolCallStatus.SUCCEEDED).count() == 2
    first, second = agent.tools.pending(user=SYSTEM)
    agent.tools.approve(first, user=SYSTEM, digest=first.digest)
    run.refresh_from_db()
    assert run.status == RunStatus.WAITING
    agent.tools.deny(second, user=SYSTEM, digest=second.digest)
    run = run_until_idle(run)
    assert run.status == RunStatus.SUCCEEDED
    results = [part for message in model.requests[1].messages for part in message.parts if part.type == "tool-result"]
    assert len(results) == 4
    assert types(agent, run).count("tool.result") == 4


def test_a_failing_tool_tells_the_model_and_a_defect_says_nothing_secret():
    agent, model, thread = make([Turn(calls=[("broken", {}), ("buggy", {})]), Turn(text="Sorry.")])
    run = run_until_idle(agent.runs.send(thread, "Go", user=SYSTEM))
    assert run.status == RunStatus.SUCCEEDED
    errors = sorted(
        part.error for message in model.requests[1].messages for part in message.parts if message.author == "tool"
    )
    assert errors[0] == "The printer is on fire."
    assert "ValueError" in errors[1] and "secret" not in errors[1]


def test_bad_arguments_and_unknown_tools_are_refused_before_anything_runs():
    calls = [("add", {"a": "x", "b": 1}), ("add", {"a": 1, "b": 1, "c": 1}), ("os.system", {"command": "id"})]
    agent, _, thread = make([Turn(calls=calls), Turn(text="Hm.")])
    run = run_until_idle(agent.runs.send(thread, "Go", user=SYSTEM))
    assert run.status == RunStatus.SUCCEEDED
    assert set(ToolCall.objects.values_list("status", flat=True)) == {ToolCallStatus.FAILED}
    assert set(ToolCall.objects.values_list("tries", flat=True)) == {0}


class Answer(BaseModel):
    number: int


def test_structured_output_is_repaired_and_stored():
    agent, model, thread = make([Turn(output={"number": "x"}), Turn(output={"number": 4})], output=Answer)
    run = run_until_idle(agent.runs.send(thread, "2+2", user=SYSTEM))
    assert run.status == RunStatus.SUCCEEDED and run.output == {"number": 4}
    assert "number" in model.requests[1].feedback


def test_output_that_is_never_valid_ends_with_its_own_code():
    agent, _, thread = make([Turn(text="x")] * 3, output=Answer)
    run = run_until_idle(agent.runs.send(thread, "2+2", user=SYSTEM))
    assert (run.status, run.error_code) == (RunStatus.FAILED, "output_invalid")
    assert types(agent, run)[-2:] == ["error", "done"]


def test_a_provider_failure_is_retried_and_the_draft_is_reset():
    failing = Turn(deltas=["Half"], error=ModelError("overloaded", code="overloaded", retry_after=0.0))
    agent, _, thread = make([failing, Turn(text="Whole")])
    run = run_until_idle(agent.runs.send(thread, "Hi", user=SYSTEM))
    assert run.status == RunStatus.SUCCEEDED
    assert "step.reset" in types(agent, run)
    assert Message.objects.filter(author_kind="agent").get().text == "Whole"


def test_a_lasting_provider_failure_keeps_its_code_and_what_was_said():
    agent, _, thread = make([Turn(deltas=["Half"], error=ModelError("Bad key", code="auth"))])
    run = run_until_idle(agent.runs.send(thread, "Hi", user=SYSTEM))
    assert (run.status, run.error_code, run.error_detail) == (RunStatus.FAILED, "auth", "Bad key")
    kept = Message.objects.get(author_kind="agent")
    assert (kept.text, kept.status) == ("Half", MessageStatus.FAILED)


def test_a_long_retry_delay_gives_the_run_back():
    failing = Turn(error=ModelError("slow down", code="rate_limited", retry_after=60))
    agent, _, thread = make([failing])
    run = run_until_idle(agent.runs.send(thread, "Hi", user=SYSTEM))
    assert run.status == RunStatus.PENDING and run.available_at is not None


def test_the_step_limit_ends_the_run_with_its_own_code():
    agent, _, thread = make([Turn(calls=[("add", {"a": 1, "b": 1})])] * 3, limits=Limits(max_steps=3))
    run = run_until_idle(agent.runs.send(thread, "Go", user=SYSTEM))
    assert (run.status, run.error_code) == (RunStatus.FAILED, "limit_steps")


def test_cancel_while_waiting_closes_every_call_and_approval():
    agent, _, thread = make([Turn(text="Asking.", calls=[("pay", {"cents": 500})])])
    run = run_until_idle(agent.runs.send(thread, "Pay", user=SYSTEM))
    run = agent.runs.cancel(run, user=SYSTEM, reason="Changed my mind.")
    assert run.status == RunStatus.CANCELED
    assert ToolCall.objects.get().status == ToolCallStatus.CANCELED
    assert list(agent.tools.pending(user=SYSTEM)) == []
    assert types(agent, run)[-1] == "done"
    assert agent.runs.cancel(run, user=SYSTEM).status == RunStatus.CANCELED


def test_runs_of_a_thread_take_turns():
    agent, _, thread = make([Turn(text="one"), Turn(text="two")])
    first = agent.runs.send(thread, "1", user=SYSTEM)
    second = agent.runs.send(thread, "2", user=SYSTEM)
    assert run_until_idle(second).status == RunStatus.PENDING
    assert run_until_idle(first).status == RunStatus.SUCCEEDED
    assert run_until_idle(second).status == RunStatus.SUCCEEDED


def test_a_retry_is_a_new_run_for_the_same_prompt():
    agent, model, thread = make([Turn(error=ModelError("no", code="auth")), Turn(text="Yes")])
    failed = run_until_idle(agent.runs.send(thread, "Hi", user=SYSTEM))
    again = run_until_idle(agent.runs.retry(failed, user=SYSTEM))
    assert again.retry_of == failed and again.status == RunStatus.SUCCEEDED
    assert Run.objects.get(pk=failed.pk).status == RunStatus.FAILED
    assert [message.author for message in model.requests[1].messages] == ["user"]
