"""`manage.py agentcore_run`: an agent from a terminal, through the same services as everybody."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from agentcore import SYSTEM, tool
from agentcore.engine.drive import Outcome
from agentcore.exceptions import ModelError
from agentcore.models import Approval, Run, Thread, ToolCall
from agentcore.providers import StepFinished, TextDelta, TextEnded
from agentcore.services import execution
from agentcore.testing import Turn
from tests.integration.room import assert_ended_once, log, make, race
from tests.integration.says import Says
from tests.stack import ROOT, Stack
from tests.testapp import world

pytestmark = [pytest.mark.once, pytest.mark.django_db(transaction=True)]
PAID: list[int] = []


@pytest.fixture(autouse=True)
def _nothing_paid():
    PAID.clear()


@tool(needs_approval=True)
def pay(cents: int, note: str = "") -> str:
    """Pay."""
    PAID.append(cents)
    return f"paid {cents}"


def script(*more: Turn) -> Any:
    return make([Turn(calls=[("pay", {"cents": 5, "note": "a\u202eb"})]), *(more or [Turn(text="Done.")])], [pay])


def run(*words: str, prompt: list[str] | None = None, monkeypatch: Any = None) -> str:
    """Call the command in this process; `prompt` is what a person types."""
    if monkeypatch is not None:
        answers = iter(prompt or [])

        def ask(question: str = "") -> str:
            try:
                return next(answers)
            except StopIteration:
                raise EOFError from None

        monkeypatch.setattr("builtins.input", ask)
    out = StringIO()
    call_command("agentcore_run", *words, stdout=out)
    return out.getvalue()


def test_the_events_of_a_run_are_printed_in_order_each_once():
    make([Turn(deltas=["Hel", "lo"])])
    printed = run("test", "Hi")
    made = Run.objects.get()
    assert_ended_once(made, "succeeded")
    assert "Hello" in printed
    shown = [line.split()[1] for line in printed.splitlines() if line[:5].strip().isdecimal()]
    assert shown == [event["type"] for event in log(made) if event["type"] != "text.delta"]


def test_two_texts_of_an_answer_are_two_paragraphs():
    make(Says([TextDelta("One."), TextEnded(), TextDelta("Two."), StepFinished("stop")]))
    assert "One.\n\nTwo." in run("test", "Hi")


def test_approve_and_deny_answer_every_approval():
    script()
    run("test", "Pay", "--approve")
    assert PAID == [5]


def test_a_denied_call_is_not_run_and_the_run_goes_on():
    script()
    run("test", "Pay", "--deny")
    assert PAID == []
    assert_ended_once(Run.objects.get(), "succeeded")
    assert ToolCall.objects.get().status == "denied"


@pytest.mark.parametrize("typed, paid", [(["y"], [5]), ([" YES "], [5]), (["n", "Too much."], []), (["", ""], [])])
def test_the_person_at_the_prompt_decides_on_exactly_what_is_shown(monkeypatch, typed, paid):
    script()
    printed = run("test", "Pay", prompt=typed, monkeypatch=monkeypatch)
    assert PAID == paid
    asked = next(line for line in printed.splitlines() if line.startswith("pay {"))
    assert "\\u{202e}" in asked and "\u202e" not in printed
    if "Too much." in typed:
        assert Approval.objects.get().reason == "Too much."


def test_nobody_at_the_prompt_decides_nothing(monkeypatch):
    script()
    with pytest.raises(CommandError, match=r"--approve or --deny.*still waits"):
        run("test", "Pay", prompt=[], monkeypatch=monkeypatch)
    assert PAID == []
    assert Approval.objects.get().status == "pending" and Run.objects.get().status == "waiting"


def test_ctrl_c_at_the_prompt_decides_nothing_and_says_that_the_run_waits(monkeypatch):
    def interrupt(question: str = "") -> str:
        raise KeyboardInterrupt

    script()
    monkeypatch.setattr("builtins.input", interrupt)
    with pytest.raises(CommandError, match="still waits") as caught:
        run("test", "Pay")
    assert str(Run.objects.get().pk) in str(caught.value)
    assert PAID == [] and Run.objects.get().status == "waiting"


def test_who_runs_an_agent_for_nobody_is_told_so(user):
    make([Turn(text="One."), Turn(text="Two.")])
    assert run("test", "Hi").startswith("Running for nobody; --user NAME")
    assert "for nobody" not in run("test", "Hi", "--user", "ada")


def test_an_agent_nobody_declares_is_named_with_those_there_are():
    with pytest.raises(CommandError, match=r"no agent called 'nobody'.*echo"):
        run("nobody", "Hi")
    assert not Run.objects.exists() and not Thread.objects.exists()


def test_a_person_or_a_thread_that_is_not_there_is_an_error(user, other_user):
    room = make([], user=other_user)
    for words in (["--user", "nobody"], ["--thread", "x"], ["--user", "ada", "--thread", str(room.thread.pk)]):
        with pytest.raises(CommandError):
            run("test", "Hi", *words)
    assert not Run.objects.exists()


def test_the_run_is_somebodys_and_goes_on_in_a_thread(user):
    room = make([Turn(text="One."), Turn(text="Two.")], user=user)
    for text in ("1", "2"):
        run("test", text, "--user", "ada", "--thread", str(room.thread.pk))
    assert list(Run.objects.values_list("thread", "user", "status")) == [(room.thread.pk, user.pk, "succeeded")] * 2


@pytest.mark.parametrize("how", ["pending", "waiting"])
def test_behind_another_run_of_the_thread_the_command_says_which_one_goes_first(how):
    room = make([Turn(calls=[("pay", {"cents": 5})])], [pay])
    first = room.play() if how == "waiting" else room.send()
    (outcome,) = race(lambda: run("test", "Hi", "--thread", str(room.thread.pk)))
    assert isinstance(outcome, CommandError)
    second = Run.objects.get(number=2)
    for word in (str(first.pk), how, "cancel", str(second.pk)):
        assert word in str(outcome)
    assert second.status == "pending"


def test_the_command_says_that_it_waits_for_a_worker_that_got_hold_of_the_run(monkeypatch):
    make([Turn("Done.")])
    really, looks = execution.drive, []

    def busy(run_id, *args):
        looks.append(run_id)
        if len(looks) > 3:
            Run.objects.filter(pk=run_id).update(status="pending", lease_expires_at=None)
            return really(run_id, *args)
        soon = timezone.now() + timedelta(minutes=1)
        Run.objects.filter(pk=run_id).update(status="running", worker="elsewhere:7", lease_expires_at=soon)
        return Outcome.NOTHING

    monkeypatch.setattr(execution, "drive", busy)
    printed = run("test", "Hi")
    assert printed.count("Worker elsewhere:7 drives the run; waiting for it.") == 1
    assert_ended_once(Run.objects.get(), "succeeded")


def test_an_empty_message_is_refused_with_a_sentence():
    make([])
    with pytest.raises(CommandError, match="empty"):
        run("test", "  ")


def test_a_failed_run_is_a_failed_command():
    make([Turn(error=ModelError("The key is wrong", code="auth"))])
    with pytest.raises(CommandError, match=r"failed. The key is wrong"):
        run("test", "Hi")


@pytest.mark.covers("fault:A10")
def test_an_approver_without_the_permission_decides_nothing(user):
    script()
    with pytest.raises(CommandError, match=r"ada may not decide.*still waits"):
        run("test", "Pay", "--approver", "ada")  # nobody is even asked
    assert PAID == [] and Approval.objects.get().status == "pending"


def test_an_approver_decides_under_their_own_name(operator):
    script()
    run("test", "Pay", "--approve", "--approver", "olga")
    assert PAID == [5] and Approval.objects.get().decided_by == operator


def shell(stack: Stack, *words: str, typed: str | None) -> subprocess.CompletedProcess[str]:
    """Run the command as a process, with `typed` at its prompt, or nobody there."""
    environment = {key: value for key, value in {**os.environ, **stack.env}.items() if key != world.HOLD_VARIABLE}
    return subprocess.run(
        [sys.executable, "-m", "django", "agentcore_run", *words],
        cwd=ROOT,
        env=environment,
        input=typed,
        stdin=subprocess.DEVNULL if typed is None else None,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_real_terminal_asks_and_carries_out_what_is_typed(stack: Stack):
    done = shell(stack, "gated", "once", typed="y\n")
    assert done.returncode == 0, done.stderr
    assert "gated_append" in done.stdout and "Approve this call?" in done.stdout
    assert len(stack.effects()) == 1
    made = Run.objects.get()
    assert_ended_once(made, "succeeded")
    assert Approval.objects.get(run=made).decided_by_name == repr(SYSTEM)


def test_a_real_terminal_without_anybody_leaves_the_run_waiting(stack: Stack):
    done = shell(stack, "gated", "once", typed=None)
    assert done.returncode == 1 and "Nobody is at the prompt" in done.stderr
    assert "Traceback" not in done.stderr
    assert stack.effects() == [] and Run.objects.get().status == "waiting"
