"""What an exception of a tool's body says: an answer that the model reads, or a question to a person."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import DataError, IntegrityError, OperationalError, models

from agentcore import SYSTEM, Checkable, EffectUnknown, ModelRetry, Tool, ToolContext, ToolFailed, tool
from agentcore.declaration import registry
from agentcore.exceptions import UserError
from agentcore.models import Run, ToolCall
from agentcore.services import approvals, unverified
from agentcore.testing import Turn
from tests.integration.room import drive_as_worker, fresh, make, only_approval

pytestmark = pytest.mark.django_db(transaction=True)
IN_PART = "It may have acted in part"


class Bodies:
    """Makes tools whose body raises, and counts how often it ran."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.ran = 0

    def act(self) -> Any:
        self.ran += 1
        raise self.error

    def sync(self, **options: Any) -> Tool:
        def act() -> Any:
            """Act."""
            return self.act()

        return tool(**options)(act)

    def unsynced(self, **options: Any) -> Tool:
        async def act() -> Any:
            """Act."""
            return self.act()

        return tool(**options)(act)


def drive(run: Run) -> Run:
    """Drive a run on a connection of its own, as a worker does."""
    drive_as_worker(run)
    return fresh(run)


def played(made: Tool) -> tuple[Run, ToolCall, Any]:
    """A run that asks for one call, which is approved where that is needed."""
    room = make([Turn(calls=[(made.name, {})]), Turn(text="Done.")], [made])
    run = drive(room.send())
    if made.needs_approval:
        approval = only_approval(run)
        approvals.approve(approval, user=SYSTEM, digest=approval.digest)
        run = drive(run)
    return run, run.tool_calls.get(), room.model


@pytest.mark.covers("fc:A16")
@pytest.mark.parametrize("kind", ["sync", "unsynced"])
@pytest.mark.parametrize("effect", ["unsafe", "idempotent"])
def test_an_exception_is_an_answer_that_says_that_it_may_have_acted_in_part(kind: str, effect: str) -> None:
    run, call, model = played(getattr(Bodies(ZeroDivisionError("secret")), kind)(effect=effect))
    assert (run.status, call.status) == ("succeeded", "failed")
    assert "ZeroDivisionError" in call.error and IN_PART in call.error and "secret" not in call.error
    (result,) = [
        part for message in model.requests[-1].messages for part in message.parts if part.type == "tool-result"
    ]
    assert (result.status, result.error) == ("failed", call.error)


@pytest.mark.covers("fc:A16")
@pytest.mark.parametrize(
    ("effect", "approved", "status"),
    [
        ("unsafe", True, "effect_unverified"),
        ("unsafe", False, "failed"),
        ("idempotent", True, "failed"),
        ("pure", True, "failed"),
        ("atomic", True, "failed"),
    ],
)
def test_a_person_is_asked_of_an_unsafe_call_that_a_person_approved(effect: str, approved: bool, status: str) -> None:
    run, call, _ = played(Bodies(ConnectionError()).sync(effect=effect, needs_approval=approved))
    assert call.status == status
    assert run.status == ("waiting" if status == "effect_unverified" else "succeeded")
    assert (IN_PART in call.error) is (status == "failed" and effect not in ("pure", "atomic"))


@pytest.mark.covers("fc:A16")
@pytest.mark.parametrize("effect", ["unsafe", "idempotent"])
def test_a_tool_may_have_a_person_asked(effect: str) -> None:
    bodies = Bodies(ConnectionError())
    run, call, _ = played(bodies.sync(effect=effect, on_error="ask"))
    assert (run.status, call.status, bodies.ran) == ("waiting", "effect_unverified", 1)


@pytest.mark.covers("fc:A16")
@pytest.mark.parametrize("effect", ["unsafe", "idempotent"])
@pytest.mark.parametrize("kind", ["sync", "unsynced"])
def test_a_body_may_say_that_it_does_not_know(effect: str, kind: str) -> None:
    error = EffectUnknown("The carrier did not answer after the order was sent.")
    run, call, _ = played(getattr(Bodies(error), kind)(effect=effect))
    assert (run.status, call.status) == ("waiting", "effect_unverified")
    assert "The carrier did not answer" in call.error


@pytest.mark.covers("fc:A16")
@pytest.mark.parametrize("effect", ["pure", "atomic"])
def test_what_leaves_nothing_behind_has_failed_whatever_it_says(effect: str) -> None:
    run, call, _ = played(Bodies(EffectUnknown("Who knows?")).sync(effect=effect))
    assert (run.status, call.status) == ("succeeded", "failed")


@pytest.mark.covers("fc:A16")
@pytest.mark.parametrize("error", [ToolFailed("Closed."), ModelRetry("Say it otherwise.")])
@pytest.mark.parametrize("options", [{"needs_approval": True}, {"on_error": "ask"}, {}], ids=str)
def test_what_a_body_says_in_its_own_words_always_means_failed(error: Exception, options: dict[str, Any]) -> None:
    run, call, _ = played(Bodies(error).sync(**options))
    assert (run.status, call.status, call.error) == ("succeeded", "failed", str(error))


@pytest.mark.covers("fc:A16")
@pytest.mark.parametrize("kind", ["sync", "unsynced"])
def test_a_timeout_of_an_unsafe_call_is_still_unknown(kind: str) -> None:
    ended = asyncio.Event()

    @tool(timeout=0.2)
    async def act() -> None:
        """Take too long."""
        await ended.wait()

    @tool(name="act", timeout=0.2)
    def act_in_a_thread(ctx: ToolContext) -> None:
        """Take too long."""
        while not ctx.cancelled:
            pass

    run, call, _ = played(act if kind == "unsynced" else act_in_a_thread)
    assert (run.status, call.status) == ("waiting", "effect_unverified")


@pytest.mark.covers("fc:A16")
@pytest.mark.parametrize(
    ("happened", "options", "status"),
    [
        ("it did", {}, "succeeded"),
        (None, {}, "failed"),
        (OSError("gone"), {}, "failed"),
        (OSError("gone"), {"on_error": "ask"}, "effect_unverified"),
        (None, {"on_error": "ask"}, "failed"),
    ],
    ids=str,
)
def test_a_check_says_what_an_exception_leaves_open(happened: Any, options: dict[str, Any], status: str) -> None:
    def check(arguments: Any, ctx: ToolContext) -> Any:
        if isinstance(happened, Exception):
            raise happened
        return happened

    bodies = Bodies(ConnectionError())
    _, call, _ = played(bodies.sync(effect=Checkable(check), **options))
    assert call.status == status
    assert ("nothing happened" in call.error) is (happened is None)


@pytest.mark.covers("fc:A16")
def test_what_a_check_could_not_tell_is_not_repeated() -> None:
    def check(arguments: Any, ctx: ToolContext) -> Any:
        raise OSError

    bodies = Bodies(ConnectionError())
    _, call, _ = played(bodies.sync(effect=Checkable(check), retries=2))
    assert (call.status, bodies.ran) == ("failed", 1)


@pytest.mark.covers("fc:A16")
def test_retries_repeat_what_has_failed() -> None:
    bodies = Bodies(ConnectionError())
    _, call, _ = played(bodies.sync(effect="idempotent", retries=2))
    assert (call.status, bodies.ran) == ("failed", 3)


@pytest.mark.covers("fc:A16")
def test_a_person_who_is_asked_may_have_it_run_again() -> None:
    bodies = Bodies(ConnectionError())
    run, call, _ = played(bodies.sync(needs_approval=True))
    unverified.resolve(run, call.call_id, "run_again", user=SYSTEM)
    run = drive(run)
    assert (bodies.ran, run.status, fresh(call).status) == (2, "waiting", "effect_unverified")


@pytest.mark.covers("fc:A16")
@pytest.mark.once
@pytest.mark.parametrize("options", [{"on_error": "shrug"}, {"effect": "pure", "on_error": "ask"}], ids=str)
def test_a_tool_says_at_its_declaration_what_it_takes(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="on_error"):
        Bodies(OSError()).sync(**options)


# --- fc:A10 -------------------------------------------------------------------------------------------------------


@pytest.mark.covers("fc:A10")
def test_advice_for_the_model_goes_to_it_at_once() -> None:
    for effect in ("pure", "idempotent", "atomic", Checkable(lambda arguments, ctx: None)):
        bodies = Bodies(ModelRetry("Name a city."))
        with registry.isolated():
            run, call, _ = played(bodies.sync(effect=effect, retries=2))
        assert (bodies.ran, run.status, call.status, call.error) == (1, "succeeded", "failed", "Name a city.")


@pytest.mark.covers("fc:A10")
def test_a_failure_that_did_nothing_is_repeated_like_any_other() -> None:
    bodies = Bodies(ToolFailed("Closed."))
    _, call, _ = played(bodies.sync(effect="idempotent", retries=2))
    assert (bodies.ran, call.status, call.error) == (3, "failed", "Closed.")


# --- fc:A12 -------------------------------------------------------------------------------------------------------


def insert_too_much() -> None:
    """Have the database refuse a value that no column takes."""
    Group.objects.create(name="x" * 151)


def refused(sqlstate: str) -> OperationalError:
    """An error as the driver reports it: the server has answered, with a code."""
    error = OperationalError("refused")
    cause = Exception()
    cause.sqlstate = sqlstate  # type: ignore[attr-defined]
    error.__cause__ = cause
    return error


@pytest.mark.covers("fc:A12")
@pytest.mark.postgres  # SQLite takes any length
def test_a_value_that_the_database_refuses_is_a_failure_also_of_an_approved_unsafe_call() -> None:
    @tool(needs_approval=True)
    def act() -> None:
        """Act."""
        insert_too_much()

    run, call, _ = played(act)
    assert (run.status, call.status) == ("succeeded", "failed")
    assert "DataError" in call.error and IN_PART in call.error


@pytest.mark.covers("fc:A12")
def test_a_constraint_that_the_database_enforces_is_a_failure_also_of_an_approved_unsafe_call() -> None:
    @tool(needs_approval=True)
    def act() -> None:
        """Act."""
        Group.objects.create(name="one")
        Group.objects.create(name="one")

    run, call, _ = played(act)
    assert (run.status, call.status) == ("succeeded", "failed") and "IntegrityError" in call.error


PROOFS: list[tuple[Exception, str]] = [
    (DataError(), "failed"),
    (IntegrityError(), "failed"),
    (refused("40P01"), "failed"),  # a deadlock
    (refused("54001"), "failed"),  # too complex
    (refused("57014"), "failed"),  # the statement's time is over
    (refused("53100"), "failed"),  # the disk is full
    (refused("57P01"), "effect_unverified"),  # the server shuts down: perhaps after the COMMIT
    (refused("08006"), "effect_unverified"),
    (refused("40003"), "effect_unverified"),
    (OperationalError("server closed the connection"), "effect_unverified"),
    (models.ObjectDoesNotExist(), "effect_unverified"),
]


@pytest.mark.covers("fc:A12")
def test_only_what_proves_that_the_transaction_was_refused_is_one() -> None:
    for error, status in PROOFS:
        with registry.isolated():
            _, call, _ = played(Bodies(error).sync(needs_approval=True))
        assert (error, call.status) == (error, status)
