"""How fault tests open: with a worker that listens, a run that speaks, or one that is inside its tool."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import OperationalError, connection

from agentcore.models import Run
from tests.faults.runs import LONG, events, send
from tests.stack import Process, Stack, wait_for


def listening(worker: Process) -> Process:
    """The worker, once it waits for its first job."""
    wait_for(lambda: "istening on" in worker.text, LONG, "the worker to listen")
    return worker


def wait_for_text(run: Run, after: str = "run.started") -> None:
    """Wait until the run has said something, or has said something after an event of that type."""

    def spoken() -> bool:
        types = [event["type"] for event in events(run)]
        return after in types and "text.delta" in types[types.index(after) :]

    wait_for(spoken, LONG, f"text after {after}")


def freeze_between_writes(worker: Process, run: Run) -> None:
    """Freeze a worker at a moment at which it holds nothing that another one of its run needs."""

    def frozen() -> bool:
        worker.freeze()
        if _is_free(run):
            return True
        worker.thaw()
        return False

    wait_for(frozen, LONG, "a moment between two writes", every=0.01)


def _is_free(run: Run) -> bool:
    """Whether somebody could write to the run at once: on SQLite, to the database."""
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            if other.vendor == "postgresql":
                cursor.execute("SET lock_timeout = '200ms'")
                cursor.execute(f"SELECT 1 FROM {Run._meta.db_table} WHERE id = %s FOR UPDATE", [run.pk])
            else:
                cursor.execute("PRAGMA busy_timeout = 200")
                cursor.execute("BEGIN IMMEDIATE")
                cursor.execute("ROLLBACK")
    except OperationalError:
        return False
    finally:
        other.close()
    return True


def inside_its_tool(
    stack: Stack, agent: Any, make_thread: Callable[..., Any], start: Callable[[], Process] | None = None
) -> tuple[Run, Process]:
    """A run that is held inside its tool, after the effect, and the worker that drives it, which `start` starts."""
    stack.hold_tools()
    run = send(agent, make_thread(agent.name))
    worker = start() if start else stack.worker()
    wait_for(stack.effects, LONG, "the tool's effect")
    return run, worker
