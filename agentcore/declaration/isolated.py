"""Tools in a process of their own: what hangs, leaks threads or crashes there takes nothing else with it."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import importlib
import inspect
import json
import operator
import os
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TextIO
from uuid import UUID

from django.db import DataError
from pydantic_core import to_jsonable_python

from ..conf import get_settings
from ..database.outage import is_refusal
from ..exceptions import EffectUnknown, ModelRetry, NotRun, ToolFailed, Unfinished, UserError
from ..values import bounded
from ..values.functions import is_coroutine_function, is_generator_function, kind_of, name_of
from .signature import read
from .tool import Tool, ToolContext

__all__ = ["ProcessDied", "isolated"]

LINE_BYTES = 64 * 1024 * 1024
PR_SET_PDEATHSIG = 1


class ProcessDied(EffectUnknown):
    """The process of an isolated tool ended without an answer."""


class _Raised(Exception):
    """What a body has raised there, known by its name only: its words stay there."""


class _Refused(_Raised, DataError):
    """The same, of an error by which the database has refused what it was to write."""


def isolated(function: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    """Have the body of a tool run in a process of its own, which ends with the call: write it below `@tool`.

    The process is killed with all it has started when the call is over, at its timeout,
    on a cancel, or with the worker. It takes as long to start as the project does, has its
    own database connection, and sees nothing of a transaction that is open here.
    """
    runs_nothing = is_coroutine_function(function) or is_generator_function(function)
    if runs_nothing or "<locals>" in getattr(function, "__qualname__", "<locals>"):
        raise UserError(f"{name_of(function)}: an isolated tool is a plain function at the top of its module.")

    @functools.wraps(function)
    async def call(**arguments: Any) -> Any:
        signature = read(function, f"Tool {function.__name__}", function.__name__, ToolContext)
        ctx = arguments.get(signature.context) if signature.context else None
        job = {"module": function.__module__, "name": function.__qualname__, "arguments": signature.dump(arguments)}
        return await _run(json.dumps({**job, "ctx": _told(ctx)}), ctx)

    return call


def _told(ctx: ToolContext | None) -> dict[str, Any] | None:
    if ctx is None:
        return None
    names = ("run_id", "thread_id", "call_id", "idempotency_key", "attempt")
    user = None if ctx.user is None else str(ctx.user.pk)
    return {**{name: to_jsonable_python(getattr(ctx, name)) for name in names}, "user_id": user}


async def _run(job: str, ctx: ToolContext | None) -> Any:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "agentcore.declaration.isolated"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
        limit=LINE_BYTES,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        with contextlib.suppress(ConnectionError):  # it died at once, and the missing answer says so
            process.stdin.write(job.encode() + b"\n")
            await process.stdin.drain()
        async for line in process.stdout:
            answer = json.loads(line)
            if "progress" not in answer:
                return _read(answer)
            if ctx is not None:
                ctx.progress(answer["progress"])
        raise ProcessDied(f"The process of the tool ended with status {await process.wait()}.")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def _read(answer: Mapping[str, Any]) -> Any:
    if "failed" in answer:
        raise ToolFailed(answer["failed"])
    if "retry" in answer:
        raise ModelRetry(answer["retry"])
    if "unknown" in answer:
        raise EffectUnknown(answer["unknown"])
    if "not_run" in answer:
        raise NotRun(answer["not_run"])
    if "unfinished" in answer:
        raise Unfinished(answer["unfinished"])
    if "raised" in answer:
        raise type(str(answer["raised"]), (_Refused if answer["refused"] else _Raised,), {})()
    return answer["result"]


@dataclass(frozen=True)
class _Context:
    """The `ToolContext` on the other side."""

    run_id: UUID
    thread_id: UUID
    call_id: str
    idempotency_key: str
    attempt: int
    user_id: str | None
    answers: TextIO
    cancelled: bool = False  # nobody asks: a cancelled call's process is killed

    @functools.cached_property
    def user(self) -> Any:
        """For whom the run works."""
        from django.contrib.auth import get_user_model  # noqa: PLC0415 - needs the apps

        return None if self.user_id is None else get_user_model()._default_manager.filter(pk=self.user_id).first()

    def progress(self, value: Any) -> None:
        """Show a value to whoever watches the run."""
        _say(self.answers, {"progress": bounded.cut(value, get_settings().result_limit)})


def _say(answers: TextIO, answer: Mapping[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def main() -> None:
    """Run one job from standard input, and answer with lines of JSON."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the body prints is for the log
    job = json.loads(sys.stdin.readline())
    import django  # noqa: PLC0415 - only here

    django.setup()
    _say(answers, _answer(job, answers))


def _answer(job: Mapping[str, Any], answers: TextIO) -> dict[str, Any]:
    try:
        found = operator.attrgetter(job["name"])(importlib.import_module(job["module"]))
        if not isinstance(found, Tool):
            raise UserError(f"{job['name']} of {job['module']} is no tool: write @tool above @isolated.")
        told = job["ctx"]
        ctx = None
        if told is not None:
            ctx = _Context(UUID(told.pop("run_id")), UUID(told.pop("thread_id")), **told, answers=answers)
        bound = found.bind(job["arguments"], ctx, function=inspect.unwrap(found.function))  # type: ignore[arg-type]
        return {"result": bounded.result(bound(), get_settings().result_limit, function=found.function)}
    except ToolFailed as error:
        return {"failed": error.message}
    except ModelRetry as error:
        return {"retry": error.message}
    except EffectUnknown as error:
        return {"unknown": error.message}
    except NotRun as error:
        return {"not_run": error.message}
    except Unfinished as error:
        return {"unfinished": error.message}
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the body's answer
        traceback.print_exc()
        return {"raised": kind_of(error), "refused": is_refusal(error)}


if __name__ == "__main__":
    main()
