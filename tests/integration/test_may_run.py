"""The access policy is asked again right before a call runs: nothing is done for somebody who is not there any more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractUser

from agentcore import SYSTEM, tool
from agentcore.access import OwnerPolicy
from agentcore.declaration import registry
from agentcore.models import Run, ToolCall
from agentcore.services import approvals, sending
from agentcore.testing import Turn, run_until_idle
from tests.integration.room import Room, make, only_approval

pytestmark = [pytest.mark.django_db, pytest.mark.covers("fc:D2")]
RAN: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()


@tool
def act() -> str:
    """Act."""
    RAN.append("act")
    return "done"


@tool(effect="pure")
def look() -> str:
    """Look."""
    RAN.append("look")
    return "seen"


@tool(name="gated", needs_approval=True)
def gated_act() -> str:
    """Act once a person agrees."""
    RAN.append("gated")
    return "done"


def deactivated(user: Any) -> None:
    get_user_model()._default_manager.filter(pk=user.pk).update(is_active=False)


def gone(user: Any) -> None:
    """As a project that keeps the thread would have it, or a row that went another way."""
    Run.objects.filter(user=user).update(user=None)
    for run in Run.objects.select_related("thread"):
        type(run.thread).objects.filter(pk=run.thread_id).update(owner=None)


ways = pytest.mark.parametrize("leaves", [deactivated, gone])


def room_of(user: Any, name: str) -> Room:
    tools = {"act": act, "look": look, "gated": gated_act}
    return make([Turn(calls=[(name, {})]), Turn(text="Done.")] * 2, [tools[name]], user=user)


def send(room: Room, user: Any) -> Run:
    return room.agent.runs.send(room.thread, "Go", user=user)


def assert_refused(run: Run, room: Room) -> None:
    call = ToolCall.objects.get(run=run)
    assert RAN == [] and (run.status, call.status) == ("succeeded", "failed")
    assert "may not have it run any more" in call.error
    results = [p for m in room.model.requests[-1].messages for p in m.parts if p.type == "tool-result"]
    assert results[-1].error == call.error


@ways
def test_nothing_runs_for_whom_a_pending_run_was_when_they_leave(
    user: AbstractUser, leaves: Callable[[Any], None]
) -> None:
    room = room_of(user, "act")
    run = send(room, user)
    leaves(user)
    assert_refused(run_until_idle(run), room)


@ways
def test_nothing_runs_that_was_approved_before_they_left(user: AbstractUser, leaves: Callable[[Any], None]) -> None:
    room = room_of(user, "gated")
    run = run_until_idle(send(room, user))
    leaves(user)
    approval = only_approval(run)
    approvals.approve(approval, user=SYSTEM, digest=approval.digest)
    assert_refused(run_until_idle(run), room)


def test_somebody_who_leaves_while_the_model_speaks_is_noticed_too(user: AbstractUser) -> None:
    room = room_of(user, "act")
    stream = room.model.stream

    async def leaving(request: Any) -> Any:
        async for event in stream(request):
            yield event
        await get_user_model()._default_manager.filter(pk=user.pk).aupdate(is_active=False)

    room.model.stream = leaving
    assert_refused(run_until_idle(send(room, user)), room)


def test_the_owner_of_a_thread_counts_also_where_somebody_else_has_asked(
    user: AbstractUser, other_user: AbstractUser, settings: Any
) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "ACCESS_POLICY": f"{__name__}.Open"}
    room = room_of(user, "act")
    run = send(room, other_user)
    deactivated(user)
    assert_refused(run_until_idle(run), room)


class Open(OwnerPolicy):
    """Everybody sees and writes everywhere."""

    def visible_threads(self, user: Any, threads: Any) -> Any:
        return threads

    def may_start(self, user: Any, thread: Any) -> bool:
        return True


def test_a_pure_call_and_one_of_the_systems_run_for_anybody(user: AbstractUser) -> None:
    deactivated(user)
    with registry.isolated():
        looks = room_of(user, "look")
        assert run_until_idle(send(looks, user)).status == "succeeded"
    with registry.isolated():
        acts = room_of(user, "act")
        assert run_until_idle(send(acts, SYSTEM)).tool_calls.get().status == "succeeded"
    with registry.isolated():
        nobodys = room_of(SYSTEM, "act")
        assert run_until_idle(send(nobodys, SYSTEM)).tool_calls.get().status == "succeeded"
    assert RAN == ["look", "act", "act"]


def test_a_retry_is_not_the_systems_because_its_person_is_gone(user: AbstractUser) -> None:
    room = room_of(user, "act")
    run = send(room, user)
    room.agent.runs.cancel(run, user=SYSTEM)
    gone(user)
    again = sending.retry(run, user=SYSTEM)
    assert again.started_by == user.get_username()
    assert_refused(run_until_idle(again), room)


class Never(OwnerPolicy):
    """A project's own rule."""

    def may_run(self, run: Run, call: ToolCall) -> bool:
        return call.name != "act"


def test_a_projects_own_policy_is_asked(user: AbstractUser, settings: Any) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "ACCESS_POLICY": f"{__name__}.Never"}
    room = room_of(user, "act")
    assert_refused(run_until_idle(send(room, user)), room)
