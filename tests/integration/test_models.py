"""The tables refuse what the code must never write, and keep what an audit needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import AbstractUser
from django.db import IntegrityError, connection, models, transaction
from django.utils import timezone

from agentcore import Agent, tool
from agentcore.models import Approval, Message, Run, RunLink, Step, SweepLease, Thread, ToolCall
from agentcore.states import ApprovalStatus, RunStatus, StepStatus, ToolCallStatus
from agentcore.streams import log
from agentcore.streams.models import Record, Stream
from agentcore.testing import ScriptedModel, Turn, run_until_idle
from agentcore.values.ids import uuid7

pytestmark = pytest.mark.django_db

LABELS = ("agentcore", "agentcore_streams")


@tool(needs_approval=True)
def pay(cents: int) -> str:
    """Pay somebody."""
    return f"paid {cents}"


@dataclass(frozen=True)
class World:
    """A run that waits for an approval, with a row in every table."""

    thread: Thread
    run: Run
    step: Step
    call: ToolCall
    approval: Approval
    message: Message
    link: RunLink


@pytest.fixture
def world(user: AbstractUser) -> World:
    """The rows a real run leaves."""
    agent = Agent(name="test", model=ScriptedModel([Turn(text="Asking.", calls=[("pay", {"cents": 5})])]), tools=[pay])
    thread = agent.threads.create(user=user)
    run = run_until_idle(agent.runs.send(thread, "Pay", user=user, key="k"))
    link = agent.runs.link(run, kind="ticket", external_id="7", user=user)
    (approval,) = Approval.objects.select_related("tool_call__step")
    message = Message.objects.get(run=run)
    return World(thread, run, approval.tool_call.step, approval.tool_call, approval, message, link)


def again(row: Any, **values: Any) -> None:
    """Insert a copy of a row under a new key, past every model method."""
    fields = {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}
    if isinstance(row._meta.pk, models.UUIDField):
        fields["id"] = uuid7()
    if isinstance(row, Run | Thread) and "stream_id" not in values:
        fields["stream_id"] = log.create(f"copy:{uuid7()}").pk
    type(row)._default_manager.bulk_create([type(row)(**{**fields, **values})])


def change(row: Any, **values: Any) -> None:
    """Update a row past every model method."""
    assert type(row)._default_manager.filter(pk=row.pk).update(**values) == 1


NOW = timezone.now()
VIOLATIONS: dict[str, list[Callable[[World], None]]] = {
    "agentcore_run_number": [lambda world: again(world.run, key="other")],
    "agentcore_run_key": [lambda world: again(world.run, number=99)],
    "agentcore_run_status": [lambda world: change(world.run, status="asleep")],
    "agentcore_run_finished": [
        lambda world: change(world.run, status=RunStatus.SUCCEEDED),
        lambda world: change(world.run, status=RunStatus.FAILED),
        lambda world: change(world.run, status=RunStatus.CANCELED),
        lambda world: change(world.run, finished_at=NOW),
    ],
    "agentcore_sweep_lease_only": [lambda world: SweepLease.objects.create(pk=2) and None],
    "agentcore_run_leased": [lambda world: change(world.run, status=RunStatus.RUNNING)],
    "agentcore_step_once": [lambda world: again(world.step)],
    "agentcore_step_one_open": [
        lambda world: [again(world.step, number=number, status=StepStatus.STARTED) for number in (8, 9)] and None
    ],
    "agentcore_step_status": [lambda world: change(world.step, status="asleep")],
    "agentcore_link_once": [lambda world: again(world.link)],
    "agentcore_call_once": [lambda world: again(world.call)],
    "agentcore_call_status": [lambda world: change(world.call, status="asleep")],
    "agentcore_call_finished": [
        lambda world: change(world.call, status=ToolCallStatus.SUCCEEDED),
        lambda world: change(world.call, status=ToolCallStatus.DENIED),
        lambda world: change(world.call, finished_at=NOW),
        lambda world: change(world.call, status=ToolCallStatus.EFFECT_UNVERIFIED, finished_at=NOW),
    ],
    "agentcore_approval_one": [
        lambda world: again(world.approval),
        lambda world: again(world.approval, status=ApprovalStatus.APPROVED, decided_at=NOW),
    ],
    "agentcore_approval_status": [lambda world: change(world.approval, status="asleep", decided_at=NOW)],
    "agentcore_approval_decided": [
        lambda world: change(world.approval, status=ApprovalStatus.APPROVED),
        lambda world: change(world.approval, status=ApprovalStatus.EXPIRED),
        lambda world: change(world.approval, decided_at=NOW),
    ],
    "agentcore_approval_consumed": [
        lambda world: change(world.approval, consumed_at=NOW),
        lambda world: change(world.approval, consumed_at=NOW, status=ApprovalStatus.DENIED, decided_at=NOW),
    ],
    "agentcore_message_place": [lambda world: again(world.message)],
    "agentcore_message_result": [
        lambda world: [again(world.message, step_order=at, tool_call_id=world.call.pk) for at in (8, 9)] and None
    ],
    "agentcore_message_status": [lambda world: change(world.message, status="asleep")],
    "agentcore_stream_name": [lambda world: again(world.thread.stream)],
    "agentcore_stream_sequencer": [lambda world: change(world.thread.stream, sequencer="nobody")],
    "agentcore_stream_next_seq": [lambda world: change(world.thread.stream, next_seq=-1)],
    "agentcore_record_positions": [
        lambda world: record(world, seq=999, append_seq=1000),
        lambda world: record(world, seq=999, append_seq=-1),
    ],
}
# A status nobody knows is neither open nor closed, which PostgreSQL remarks first.
IMPLIED_BY = {
    "agentcore_run_status": "agentcore_run_finished",
    "agentcore_call_status": "agentcore_call_finished",
}
# What a field declares, and no constraint of its own: unique columns and primary keys.
FIELDS: dict[str, Callable[[World], None]] = {
    "one record at a position": lambda world: record(world, seq=0, append_seq=0),
    "one stream of a name": lambda world: again(world.thread.stream),
    "one run for a stream": lambda world: again(world.run, number=99, key="", stream_id=world.run.stream_id),
    "one thread for a stream": lambda world: again(world.thread, stream_id=world.thread.stream_id),
}


def record(world: World, **values: Any) -> None:
    Record.objects.bulk_create([Record(stream_id=world.run.stream_id, data=b"{}", created_at=NOW, **values)])


def constraints() -> dict[str, models.BaseConstraint]:
    found = [
        item
        for label in LABELS
        for model in apps.get_app_config(label).get_models()
        for item in model._meta.constraints
    ]
    return {item.name: item for item in found}


@pytest.mark.covers("dj:MOD-4")
def test_every_constraint_is_violated_below_and_has_a_short_name() -> None:
    assert set(VIOLATIONS) == set(constraints())
    assert [name for name in VIOLATIONS if len(name) > 30 or not name.startswith("agentcore_")] == []


@pytest.mark.covers("dj:MOD-4")
@pytest.mark.parametrize(
    ("name", "violate"), [(name, one) for name, several in VIOLATIONS.items() for one in several],
    ids=[f"{name}-{number}" for name, several in VIOLATIONS.items() for number in range(len(several))],
)  # fmt: skip
def test_the_database_refuses_rows_that_break_a_constraint(
    world: World, name: str, violate: Callable[[World], None]
) -> None:
    with pytest.raises(IntegrityError) as refused, transaction.atomic():
        violate(world)
    # SQLite names the columns of a unique constraint instead of the constraint.
    if connection.vendor == "postgresql" or isinstance(constraints()[name], models.CheckConstraint):
        assert name in str(refused.value) or IMPLIED_BY.get(name, name) in str(refused.value)
    else:
        assert "UNIQUE" in str(refused.value)


@pytest.mark.covers("dj:MOD-4")
@pytest.mark.parametrize("violate", FIELDS.values(), ids=FIELDS)
def test_the_database_refuses_a_second_row_where_there_is_one(world: World, violate: Callable[[World], None]) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        violate(world)


@pytest.mark.covers("dj:MOD-4")
def test_what_the_constraints_allow_is_allowed(world: World) -> None:
    again(world.run, number=99, key="")
    again(world.run, number=100, key="")
    again(world.run, number=101, key="other")
    again(world.run, number=102, key="k", agent="another")
    again(world.step, status=StepStatus.FAILED)
    again(world.approval, status=ApprovalStatus.DENIED, decided_at=NOW)
    change(world.approval, status=ApprovalStatus.APPROVED, decided_at=NOW, consumed_at=NOW)
    change(world.call, status=ToolCallStatus.SUCCEEDED, finished_at=NOW)
    change(world.run, status=RunStatus.RUNNING, lease_expires_at=NOW)


@pytest.mark.covers("dj:MOD-2")
def test_what_was_said_run_and_decided_outlives_the_account(world: World, user: AbstractUser) -> None:
    change(world.approval, status=ApprovalStatus.DENIED, decided_at=NOW, decided_by=user, decided_by_name="ada")
    user.delete()
    run = Run.objects.select_related("thread").get(pk=world.run.pk)
    assert run.user is None and run.thread.owner is None
    said = Message.objects.get(thread=run.thread, order=0, step_order=0)
    assert (said.author_user, said.author_name, said.text) == (None, "ada", "Pay")
    decided = Approval.objects.get()
    assert (decided.decided_by, decided.decided_by_name, decided.status) == (None, "ada", ApprovalStatus.DENIED)
    assert log.read(run.stream_id)


def test_the_log_of_a_thread_or_run_cannot_be_deleted_from_under_it(world: World) -> None:
    with pytest.raises(models.ProtectedError):
        Stream.objects.filter(pk=world.run.stream_id).delete()


@pytest.mark.covers("dj:MOD-6")
def test_messages_are_ordered_by_their_place_whatever_the_clock_says(world: World) -> None:
    change(world.message, created_at=NOW - timedelta(days=9))
    ordered = Message.objects.filter(thread=world.thread).in_order()
    assert [item.text for item in ordered] == ["Pay", "Asking."]


@pytest.mark.covers("dj:MOD-14")
def test_naming_a_row_asks_the_database_nothing(world: World, django_assert_num_queries: Any) -> None:
    rows = [*Run.objects.all(), *Thread.objects.all(), *Message.objects.all(), *ToolCall.objects.all(),
            *Approval.objects.all(), *Step.objects.all(), *RunLink.objects.all(), *Stream.objects.all(),
            *Record.objects.all()]  # fmt: skip
    with django_assert_num_queries(0):
        assert all(str(row) for row in rows)


@pytest.mark.covers("dj:DB-4")
def test_this_run_is_on_the_database_its_settings_name(django_db_setup: None) -> None:
    from django.conf import settings

    vendor = {"tests.settings.sqlite": "sqlite", "tests.settings.postgres": "postgresql"}
    assert connection.vendor == vendor[settings.SETTINGS_MODULE]
