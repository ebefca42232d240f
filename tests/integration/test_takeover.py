"""Take-over: what a dead worker left is put in order, and what it may have done is never guessed."""

from __future__ import annotations

import asyncio

import pytest

from agentcore import SYSTEM
from agentcore.exceptions import AlreadyDecided, Invalid, NotAllowed, NotFound, RunEnded
from agentcore.models import Message, Run, Step, ToolCall
from agentcore.providers import TextDelta
from agentcore.services import approvals, unverified
from agentcore.testing import Turn
from tests.integration.doomed import TOOLS, WORLD, DiesMidText, interrupted, make_waiting_for_gated
from tests.integration.room import die_driving, drive_to_the_end, fresh, log, make, only_approval, types

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("nobody_died")]


# --- tools --------------------------------------------------------------------------------------------------------


@pytest.mark.covers("fault:W5", "fault:W6", "promise:P4", "promise:P5")
def test_an_unsafe_call_that_was_running_waits_for_a_person():
    _, run = interrupted("unsafe")
    assert drive_to_the_end(run).status == "waiting"
    assert run.waiting_reasons() == ["effect_unverified"]
    call = ToolCall.objects.get(run=run)
    assert call.status == "effect_unverified" and len(WORLD.keys) == 1
    results = [event["status"] for event in log(run) if event["type"] == "tool.result"]
    assert results == ["effect_unverified"]


@pytest.mark.covers("fault:W5", "promise:P5")
@pytest.mark.parametrize(
    "answer, status, effects", [("happened", "succeeded", 1), ("run_again", "succeeded", 2), ("give_up", "failed", 1)]
)
def test_the_three_answers_to_an_unverified_call(answer, status, effects):
    room, run = interrupted("unsafe")
    drive_to_the_end(run)
    call = ToolCall.objects.get(run=run)
    told = {"result": {"receipt": 7}} if answer == "happened" else {"reason": "Checked by hand."}
    unverified.resolve(run, call.call_id, answer, user=SYSTEM, **told)
    assert fresh(run).status == "pending" and fresh(run).dispatched_at is not None
    assert drive_to_the_end(run).status == "succeeded"
    call.refresh_from_db()
    assert call.status == status and len(WORLD.keys) == effects
    assert len(set(WORLD.keys)) == 1
    parts = [part for item in room.model.requests[1].messages for part in item.parts if part.type == "tool-result"]
    assert [part.status for part in parts] == [status]
    if answer == "happened":
        assert parts[0].result == {"receipt": 7}
    with pytest.raises((AlreadyDecided, RunEnded)):
        unverified.resolve(run, call.call_id, "run_again", user=SYSTEM)
    assert len(WORLD.keys) == effects


def test_who_may_answer_for_an_unverified_call(user, operator, other_user):
    room, run = interrupted("unsafe")
    drive_to_the_end(run)
    Run.objects.filter(pk=run.pk).update(user=user)
    type(room.thread).objects.filter(pk=room.thread.pk).update(owner=user)
    call = ToolCall.objects.get(run=run)
    for person, error in ((user, NotAllowed), (other_user, NotFound), (operator, NotFound)):
        with pytest.raises(error):
            unverified.resolve(run, call.call_id, "happened", user=person)
    with pytest.raises(NotFound):
        unverified.resolve(run, "no-such-call", "happened", user=SYSTEM)
    with pytest.raises(Invalid):
        unverified.resolve(run, call.call_id, "perhaps", user=SYSTEM)  # type: ignore[arg-type]
    assert fresh(call).status == "effect_unverified" and fresh(run).status == "waiting"


@pytest.mark.covers("fault:W5", "fault:W7")
@pytest.mark.parametrize("name", ["idempotent", "pure"])
def test_a_call_that_may_be_repeated_runs_again_with_the_same_key(name):
    _, run = interrupted(name)
    assert drive_to_the_end(run).status == "succeeded"
    assert len(WORLD.keys) == 2 and len(set(WORLD.keys)) == 1
    call = ToolCall.objects.get(run=run)
    assert (call.status, call.tries, call.result_json) == ("succeeded", 2, "done 2")
    assert types(run).count("tool.result") == 1


@pytest.mark.covers("fault:W7", "promise:P5")
@pytest.mark.parametrize("name", ["checked", "checked_async", "async_checked"])
@pytest.mark.parametrize("happened, result, effects", [("receipt 7", "receipt 7", 1), (None, "done 2", 2)])
def test_a_checkable_call_asks_its_check_before_it_runs_again(name, happened, result, effects):
    _, run = interrupted(name)
    WORLD.happened = happened
    assert drive_to_the_end(run).status == "succeeded"
    assert ToolCall.objects.get(run=run).result_json == result
    assert len(WORLD.keys) == effects


@pytest.mark.covers("promise:P5")
def test_a_check_that_fails_leaves_the_question_to_a_person():
    _, run = interrupted("checked")
    WORLD.happened = ConnectionError("secret of the check")
    assert drive_to_the_end(run).status == "waiting"
    assert run.waiting_reasons() == ["effect_unverified"] and len(WORLD.keys) == 1
    assert "secret" not in ToolCall.objects.get(run=run).error


@pytest.mark.covers("fault:W6", "fault:W8")
def test_an_interrupted_round_repeats_only_what_was_not_finished():
    room = make([Turn(calls=[("pure", {}), ("unsafe", {}), ("idempotent", {})]), Turn(text="Done.")], TOOLS)
    run = room.send()
    WORLD.deaths = 1  # the first call to act takes the worker with it; the others never came to their result
    die_driving(run)
    begun = list(WORLD.keys)
    ended = drive_to_the_end(run)
    statuses = dict(ToolCall.objects.filter(run=run).values_list("name", "status"))
    # Which of the three came first is the threads' affair: an unsafe one that had its result keeps it.
    assert (statuses["unsafe"], ended.status) in {("effect_unverified", "waiting"), ("succeeded", "succeeded")}
    key = str(ToolCall.objects.get(run=run, name="unsafe").pk)
    assert WORLD.keys.count(key) == begun.count(key) <= 1
    assert statuses["pure"] == statuses["idempotent"] == "succeeded"


@pytest.mark.covers("fault:A12")
def test_an_approval_that_was_consumed_by_a_dead_worker_is_not_consumed_again():
    _, run = make_waiting_for_gated()
    WORLD.deaths = 1
    approval = only_approval(run)
    approvals.approve(approval, user=SYSTEM, digest=approval.digest)
    die_driving(run)
    consumed = fresh(approval).consumed_at
    assert drive_to_the_end(run).status == "waiting" and consumed is not None
    call = ToolCall.objects.get(run=run)
    unverified.resolve(run, call.call_id, "run_again", user=SYSTEM)
    assert drive_to_the_end(run).status == "succeeded"
    assert len(WORLD.keys) == 2 and fresh(approval).consumed_at == consumed


# --- model steps --------------------------------------------------------------------------------------------------


@pytest.mark.covers("fault:W3", "promise:P3", "promise:P7")
def test_the_text_of_a_dead_attempt_is_reset_and_appears_once_in_the_message():
    room = make(DiesMidText())
    run = room.send()
    die_driving(run)
    assert "text.delta" in types(run)
    assert drive_to_the_end(run).status == "succeeded"
    found = log(run)
    reset = next(event for event in found if event["type"] == "step.reset")
    after = [event for event in found if event["seq"] > reset["seq"]]
    assert reset["step"] == 1
    assert "".join(event["text"] for event in after if event["type"] == "text.delta") == "Attempt 2 ends."
    assert Message.objects.get(run=run, author_kind="agent").text == "Attempt 2 ends."
    assert types(run).count("run.started") == 2 and run.attempt == 2
    assert list(Step.objects.filter(run=run).order_by("started_at").values_list("number", "status", "error_code")) == [
        (1, "failed", "worker_lost"),
        (1, "finished", ""),
    ]


@pytest.mark.covers("fault:W4", "fault:W8")
def test_a_committed_model_step_is_never_asked_for_again():
    room, run = interrupted("idempotent")
    assert drive_to_the_end(run).status == "succeeded"
    assert len(room.model.requests) == 2
    room.model.assert_finished()


def test_a_model_that_is_cancelled_by_its_own_library_fails_and_does_not_hang():
    class Cancels:
        name, provider = "cancels", "tests"

        async def stream(self, request):
            yield TextDelta("Half")
            raise asyncio.CancelledError

    run = make(Cancels()).play()
    assert (run.status, run.error_code) == ("failed", "model_failed")


def test_a_model_that_says_what_is_no_text_fails_at_once_and_is_named_as_the_one_who_did():
    said = []

    class Stammers:
        name, provider = "stammers", "tests"

        async def stream(self, request):
            for piece in ("Half", b"a word", "more"):
                said.append(piece)
                yield TextDelta(piece)
                await asyncio.sleep(0)

    run = make(Stammers()).play()
    assert (run.status, run.error_code, said) == ("failed", "provider_error", ["Half", b"a word"])
    assert "bytes" in run.error_detail and "bytes" not in run.error_message
