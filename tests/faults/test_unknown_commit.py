"""Cut off around a COMMIT: nobody knows what became of it but the database, which is asked and never guessed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import AbstractUser
from django.db import connections

from agentcore.engine.runtime import Runtime
from agentcore.models import Message, Run, Thread, ToolCall
from agentcore.services import execution
from agentcore.testing import FaultProxy
from agentcore.testing.faults.plans import DIRECTORY_VARIABLE, SPEC_VARIABLE
from tests.faults.browser import Browser
from tests.faults.runs import LONG, assert_log_is_whole, events, send, types, wait_for_success
from tests.integration.room import drive_to_the_end, lapse, race
from tests.stack import Stack, database_url, wait_for
from tests.testapp import agents, rows, world

MOST_COMMITS = 40


# --- what was accepted --------------------------------------------------------------------------------------------


@pytest.mark.covers("fault:R1", "promise:P1")
def test_a_run_whose_web_process_dies_between_commit_and_hint_is_found_by_the_sweep(
    stack: Stack, thread: Thread, user: AbstractUser, tmp_path: Path
) -> None:
    doomed = stack.web(**{SPEC_VARIABLE: "before_enqueue=kill", DIRECTORY_VARIABLE: str(tmp_path)})
    assert Browser.of(doomed.url, user).send(thread, key="once").status == 0
    wait_for(lambda: not doomed.alive, LONG, "the web process to die")
    run = Run.objects.get()
    assert run.status == "pending"
    again = Browser.of(stack.web().url, user).send(thread, key="once")  # what a client does that got no answer
    assert (again.status, again.body["id"]) == (200, str(run.pk))
    stack.sweeper()
    stack.worker()
    wait_for_success(run)
    assert Run.objects.get().attempt == 1


@pytest.mark.postgres
@pytest.mark.covers("fault:R3", "promise:P1")
@pytest.mark.parametrize(("cut", "again"), [("cut_on_commit", 200), ("cut_before_commit", 201)])
def test_a_send_cut_off_at_its_commit_is_asked_again_and_makes_one_run(
    stack: Stack, thread: Thread, user: AbstractUser, cut: str, again: int
) -> None:
    with FaultProxy(database_url()) as proxy:
        browser = Browser.of(stack.web(DATABASE_URL=proxy.url).url, user)
        getattr(proxy, cut)(times=1)
        answer = browser.send(thread, key="once")
        assert (answer.status, answer.body["code"], proxy.cuts) == (503, "unavailable", 1)
        assert Run.objects.count() == (1 if cut == "cut_on_commit" else 0)
        repeated = browser.send(thread, key="once")
        assert repeated.status == again
    run = Run.objects.get()
    assert repeated.body["id"] == str(run.pk) and Message.objects.count() == 1
    stack.sweeper()
    stack.worker()
    wait_for_success(run)


# --- what a worker commits ----------------------------------------------------------------------------------------


class CutsOnce(FaultProxy):
    """Cuts one COMMIT only: the one after the first `passes`."""

    def __init__(self, url: str, passes: int) -> None:
        super().__init__(url)
        self.passes = passes

    def _takes(self, kind: Any) -> bool:
        if self._fault.kind is kind and self.passes > 0:
            self.passes -= 1
            return False
        return super()._takes(kind)


@contextmanager
def through(proxy: FaultProxy) -> Iterator[None]:
    """Let every connection that is opened meanwhile go through the proxy."""
    options = connections.settings["default"]
    before = {name: options[name] for name in ("HOST", "PORT")}
    options.update(HOST="127.0.0.1", PORT=proxy.port)
    try:
        yield
    finally:
        options.update(before)


@pytest.mark.postgres
@pytest.mark.covers("fault:D3", "promise:P2", "promise:P4", "promise:P5")
@pytest.mark.parametrize("cut", ["cut_on_commit", "cut_before_commit"])
@pytest.mark.parametrize("agent", ["careful_bee", "worker_bee", "atomic_booker"])
def test_whichever_commit_of_a_worker_is_cut_off_nothing_is_lost_or_doubled(
    transactional_db: None,
    make_thread: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    agent: str,
    cut: str,
) -> None:
    for passes in range(MOST_COMMITS):
        monkeypatch.setenv(world.LOG_VARIABLE, str(log := tmp_path / f"{passes}.log"))
        run = send(getattr(agents, agent), make_thread(agent))
        with CutsOnce(database_url(), passes) as proxy, through(proxy):
            getattr(proxy, cut)(times=1)
            race(lambda run=run: execution.drive(run.pk, Runtime("cut off")))
        lapse(run)
        run = drive_to_the_end(run)
        assert_honest(run, [effect for effect in world.effects(log) + rows.committed() if effect.run_id == str(run.pk)])
        if not proxy.cuts:
            break  # there were no more commits than these
    else:
        raise AssertionError(f"a run took {MOST_COMMITS} commits")
    assert passes > 3 and run.status == "succeeded" and run.attempt == 1


def assert_honest(run: Run, effects: list[world.Effect]) -> None:
    """The run has ended, or a person is asked about a call that may have happened; its log is in order."""
    call = ToolCall.objects.get(run=run)
    if run.status == "succeeded":
        assert_log_is_whole(run)
        assert call.status == "succeeded" and effects
    else:
        assert (run.status, call.status, call.effect) == ("waiting", "effect_unverified", "unsafe")
    if call.effect in ("unsafe", "atomic"):
        assert len(effects) <= 1
    assert {effect.call_id for effect in effects} <= {call.call_id}
    log = events(run)
    assert [event["seq"] for event in log] == list(range(len(log))) == list(range(run.next_seq))
    started = [event["attempt"] for event in log if event["type"] == "run.started"]
    assert started == list(range(1, run.attempt + 1))
    assert [event["type"] for event in log].count("tool.call") == 1


@pytest.mark.postgres
@pytest.mark.covers("fault:D11", "promise:P2")
def test_a_worker_that_could_not_renew_its_lease_breaks_its_model_call_off(
    stack: Stack, make_thread: Callable[..., Any]
) -> None:
    run = send(agents.silent, make_thread("silent"))  # so that nothing but the renewal writes
    with FaultProxy(database_url()) as proxy:
        cut_off = stack.worker(DATABASE_URL=proxy.url)
        wait_for(lambda: "step.started" in types(run), LONG, "the model call")
        proxy.blackhole()
        stack.sweeper()
        stack.worker()
        wait_for(lambda: Run.objects.get(pk=run.pk).attempt == 2, LONG, "another worker to take the run over")
        wait_for(lambda: "let go: lost" in cut_off.text, 10, "the first worker to let go by its own clock")
        proxy.ok()
    wait_for(lambda: types(run).count("step.started") == 2, LONG, "the second worker's model call")
    assert types(run)[-3:] == ["run.started", "step.reset", "step.started"]
    assert Run.objects.get(pk=run.pk).attempt == 2
