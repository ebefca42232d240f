"""Takes one protection out of the engine, for tests that prove that the checker would notice.

Nothing here is part of agentcore: a test calls `off`, or starts a process with the
variable set, which the test app reads (`AGENTCORE_TEST_SABOTAGE=token_check`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache
from types import ModuleType
from typing import Any
from unittest import mock

from django.db import connection

from agentcore.database import bulk
from agentcore.engine.steps import ruling, tools
from agentcore.exceptions import LeaseLost
from agentcore.journal import fence, parts, postgres, sqlite
from agentcore.journal.lease import Lease
from agentcore.models import Step
from agentcore.streams import hub

VARIABLE = "AGENTCORE_TEST_SABOTAGE"


def _token_check(patches: ExitStack) -> None:
    """A worker writes on whether the claim is still its own or not, and never looks."""
    _change(
        patches,
        fence,
        "fenced",
        (r"\s+AND \(wanted\.attempt IS NULL OR agentcore_run\.attempt = wanted\.attempt\)", ""),
    )
    # Else a write that met the other worker's would find out that the run is not its own, and be heard by nobody.
    patches.enter_context(mock.patch.object(fence, "ours", lambda given: {claim.run_id: False for claim in given}))
    real = Lease.interrupt

    def deaf(lease: Lease, reason: BaseException) -> None:
        if not isinstance(reason, LeaseLost):
            real(lease, reason)

    patches.enter_context(mock.patch.object(Lease, "interrupt", deaf))


def _claim_check(patches: ExitStack) -> None:
    """A worker claims a run without a look at whether the run or its thread has changed since it read them."""
    _change(
        patches,
        fence,
        "fenced",
        (r"\(wanted\.seen_seq IS NULL", "(wanted.claims OR wanted.seen_seq IS NULL"),
        (r"(?s)(?<=AND CASE WHEN wanted\.claims THEN ).*?(?=\n +ELSE agentcore_run\.status)", "TRUE"),
    )


def _call_row(patches: ExitStack) -> None:
    """A call's row, and its round's, are no guard: a call that runs is set running again, and so is a round."""
    _change(patches, parts, "moving", (r" AND \S+\.status = wanted\.source", ""))


def _poll_fallback(patches: ExitStack) -> None:
    """Whoever follows a log waits for hints, and never looks by itself."""

    async def never(work: Any) -> None:
        return None

    patches.enter_context(mock.patch.object(hub._Work, "_poll", never))


def _approval_digest(patches: ExitStack) -> None:
    """An approval is good for whatever stands in the call's row."""
    patches.enter_context(mock.patch.object(ruling, "_binds", return_value=True))


def _consume_once(patches: ExitStack) -> None:
    """An approval may serve again."""
    real = tools._consume
    patches.enter_context(mock.patch.object(tools, "_consume", lambda approval: replace(real(approval), unset="")))


PROTECTIONS: dict[str, Callable[[ExitStack], None]] = {
    "token_check": _token_check,
    "claim_check": _claim_check,
    "call_row": _call_row,
    "poll_fallback": _poll_fallback,
    "approval_digest": _approval_digest,
    "consume_once": _consume_once,
}


def _change(patches: ExitStack, module: ModuleType, name: str, *changes: tuple[str, str]) -> None:
    """Replace what each pattern matches in the statement that a function builds; it must be there, and once."""
    real = getattr(module, name)

    def build(*args: Any) -> bulk.Statement:
        statement = real(*args)
        text = statement.text
        for pattern, replacement in changes:
            text, count = re.subn(pattern, replacement, text)
            assert count == 1, f"{name} has changed: {statement.text}"
        return bulk.Statement(text, statement.columns)

    patches.callback(_forget)
    patches.enter_context(mock.patch.object(module, name, cache(build)))
    _forget()


def _forget() -> None:
    """Have whole statements made anew of their parts."""
    postgres._statement.cache_clear()
    sqlite._fence.cache_clear()


@contextmanager
def off(*names: str) -> Iterator[None]:
    """Take protections out of this process, for as long as the block lasts."""
    with ExitStack() as patches:
        for name in names:
            PROTECTIONS[name](patches)
        yield


@contextmanager
def without_unique_steps() -> Iterator[None]:
    """Let this test's database hold two open steps, or two finished ones of a number, of one run."""
    dropped = [
        item for item in Step._meta.constraints if item.name in ("agentcore_step_one_open", "agentcore_step_once")
    ]
    with connection.schema_editor() as editor:
        for constraint in dropped:
            editor.remove_constraint(Step, constraint)
    try:
        yield
    finally:
        Step.objects.all().delete()
        with connection.schema_editor() as editor:
            for constraint in dropped:
                editor.add_constraint(Step, constraint)


def from_environment() -> None:
    """Take out what the environment of this process names, for good."""
    names = os.environ.get(VARIABLE, "").split()
    patches = ExitStack()
    for name in names:
        PROTECTIONS[name](patches)
