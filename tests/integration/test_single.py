"""One run alone in its process: a signal drains it, a grace bounds that, and nothing is left of the handler."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from typing import Any
from uuid import UUID, uuid4

import pytest
from asgiref.sync import sync_to_async
from django.conf import LazySettings
from django.core.management import call_command

from agentcore.jobs import single
from agentcore.models import Run, Thread
from agentcore.services import execution
from tests.testapp import agents

pytestmark = pytest.mark.once


async def beat() -> None:
    """Come by the main thread, as the engine does for its database: a signal may have to wait for that."""
    await sync_to_async(time.sleep)(0.01)


class Engine:
    """Stands for the engine: goes on until it is drained, or deaf to that until it is cancelled."""

    def __init__(self, deaf: bool = False) -> None:
        self.deaf = deaf
        self.drained = threading.Event()
        self.began = threading.Event()
        self.cancelled = False

    async def adrive(self, run_id: UUID, runtime: Any = None) -> str:
        """Drive, in place of `execution.adrive`."""
        self.began.set()
        try:
            while self.deaf or not self.drained.is_set():
                await beat()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return single.Outcome.RELEASED


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, settings: LazySettings) -> Engine:
    """In place of the real one; the grace is short."""
    settings.AGENTCORE = {**settings.AGENTCORE, "DRAIN_SECONDS": 0.3}
    found = Engine()
    monkeypatch.setattr(execution, "adrive", found.adrive)
    monkeypatch.setattr(single.Runtime, "drain", lambda runtime: found.drained.set())
    return found


def signal_once(engine: Engine) -> threading.Thread:
    """Send SIGTERM to this process as soon as the drive has begun."""

    def send() -> None:
        assert engine.began.wait(10)
        os.kill(os.getpid(), signal.SIGTERM)

    sender = threading.Thread(target=send)
    sender.start()
    return sender


@pytest.mark.covers("fault:O1")
@pytest.mark.parametrize("deaf", [False, True])
def test_a_signal_drains_the_run_and_the_grace_ends_one_that_does_not_listen(engine: Engine, deaf: bool) -> None:
    before = signal.getsignal(signal.SIGTERM)
    engine.deaf = deaf
    sender = signal_once(engine)
    assert single.drive(uuid4()) == "released"
    sender.join()
    assert engine.drained.is_set() and engine.cancelled is deaf
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.covers("fault:O1")
def test_a_signal_that_comes_before_the_drive_has_begun_is_not_forgotten(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def name_late() -> str:
        os.kill(os.getpid(), signal.SIGTERM)
        return "a worker"

    monkeypatch.setattr(single, "this_worker", name_late)
    assert single.drive(uuid4()) == "released"
    assert engine.drained.is_set() and not engine.cancelled


@pytest.mark.covers("fault:O1")
def test_a_second_signal_does_not_break_the_handing_over_off(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    handed_over: list[bool] = []

    async def slowly(run_id: UUID, runtime: Any = None) -> str:
        engine.began.set()
        try:
            for _ in range(3000):
                await beat()
        except asyncio.CancelledError:
            await asyncio.sleep(0.5)
            handed_over.append(True)
            raise
        return single.Outcome.ENDED

    monkeypatch.setattr(execution, "adrive", slowly)
    first = signal_once(engine)
    second = threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGTERM))
    second.start()
    assert single.drive(uuid4()) == "released"
    first.join()
    second.join()
    assert handed_over == [True]


@pytest.mark.django_db(transaction=True)
def test_the_command_drives_a_run_and_says_how_far_it_came(thread: Thread, capsys: pytest.CaptureFixture[str]) -> None:
    run = agents.echo.runs.send(thread, "Hi", user=thread.owner)
    call_command("agentcore_drive", str(run.pk))
    assert capsys.readouterr().out == "ended\n"
    assert Run.objects.get(pk=run.pk).status == "succeeded"
    call_command("agentcore_drive", str(run.pk))
    assert capsys.readouterr().out == "nothing\n"
