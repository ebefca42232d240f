"""Failpoints: off unless a test turns them on, and exactly what the test asked for where it did."""

from __future__ import annotations

import ast
import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import LazySettings
from django.db import OperationalError

from agentcore.failpoints import afailpoint, failpoint
from agentcore.testing import failpoint_environment
from agentcore.testing.faults.actions import ALWAYS, POINTS, FailpointRaised, parse
from agentcore.testing.faults.plans import Marks, armed
from tests.stack import ROOT, wait_for

pytestmark = pytest.mark.once

PASSES_BY = "import django; django.setup(); from agentcore.failpoints import failpoint\n"


@pytest.fixture
def marks(tmp_path: Path) -> Marks:
    return Marks(tmp_path)


def passing(marks: Marks, spec: str, times: int = 1, **env: str) -> subprocess.Popen[str]:
    """A process that comes by `in_tool` so often, then says that it got through."""
    code = PASSES_BY + f"for n in range({times}): failpoint('in_tool')\nprint('through')"
    environment = {"AGENTCORE_FAILPOINTS": spec, "AGENTCORE_FAILPOINT_DIR": str(marks.directory), **env}
    command = [sys.executable, "-c", code]
    return subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, error = process.communicate(timeout=60)
    return process.returncode, out + error


def test_a_fired_point_lets_the_next_process_through(marks: Marks) -> None:
    assert ended(passing(marks, "in_tool=kill"))[0] == -signal.SIGKILL
    assert ended(passing(marks, "in_tool=kill")) == (0, "through\n")
    assert marks.fired("in_tool") == 1


def test_it_fires_as_often_as_asked_over_all_processes(marks: Marks) -> None:
    codes = [ended(passing(marks, "in_tool=exit:7*2"))[0] for _ in range(3)]
    assert codes == [7, 7, 0]


@pytest.mark.parametrize(
    ("spec", "code"), [("in_tool=segv", -signal.SIGSEGV), ("in_tool=exit", 1), ("in_tool=kill@3", -signal.SIGKILL)]
)
def test_it_ends_a_process_in_the_way_asked_for(marks: Marks, spec: str, code: int) -> None:
    assert ended(passing(marks, spec, times=3))[0] == code


def test_a_hit_too_early_does_nothing(marks: Marks) -> None:
    assert ended(passing(marks, "in_tool=kill@3", times=2)) == (0, "through\n")


def test_it_stops_a_process_until_it_is_told_to_go_on(marks: Marks) -> None:
    process = passing(marks, "in_tool=stop")
    pid, status = os.waitpid(process.pid, os.WUNTRACED)
    assert (pid, os.WIFSTOPPED(status)) == (process.pid, True)
    os.kill(pid, signal.SIGCONT)
    assert ended(process) == (0, "through\n")


def test_a_held_process_waits_for_its_release(marks: Marks) -> None:
    process = passing(marks, "in_tool=hold")
    wait_for(lambda: marks.reached("in_tool"), 60, "the process to be held")
    assert process.poll() is None
    marks.release("in_tool")
    assert ended(process) == (0, "through\n")


def test_nothing_fires_where_the_setting_does_not_allow_it(marks: Marks) -> None:
    process = passing(marks, "in_tool=kill", DJANGO_SETTINGS_MODULE="tests.settings.lint")
    assert ended(process) == (0, "through\n")


def test_a_process_without_the_setting_loads_nothing_of_the_test_kit() -> None:
    code = "import sys, django; django.setup(); print([name for name in sys.modules if 'agentcore.testing' in name])"
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings.lint"}
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True)
    assert (process.returncode, process.stdout) == (0, "[]\n")


@pytest.mark.parametrize(("spec", "says"), [("on_tool=kill", "no failpoint 'on_tool'"), ("in_tool=die", "no action")])
def test_a_slip_of_the_pen_in_the_environment_is_an_error(marks: Marks, spec: str, says: str) -> None:
    code, text = ended(passing(marks, spec))
    assert code == 1 and says in text


def test_an_environment_without_a_directory_is_an_error(marks: Marks) -> None:
    code, text = ended(passing(marks, "in_tool=kill", AGENTCORE_FAILPOINT_DIR=""))
    assert code == 1 and "AGENTCORE_FAILPOINT_DIR" in text


@pytest.mark.parametrize(
    "spec",
    ["x=kill", "in_tool", "in_tool=", "in_tool=kill:9", "in_tool=sleep", "in_tool=sleep:soon", "in_tool=exit:x",
     "in_tool=raise:NoSuchError", "in_tool=kill@0", "in_tool=kill*0", "in_tool=hold:3", "=kill", "in_tool=KILL"],
)  # fmt: skip
def test_a_spec_that_means_nothing_is_refused(spec: str) -> None:
    with pytest.raises(ValueError):
        parse(spec)


def test_the_environment_for_a_process_is_checked_where_it_is_made(tmp_path: Path) -> None:
    made = failpoint_environment(tmp_path, after_claim="kill", at_wait="hold")
    assert made == {"AGENTCORE_FAILPOINTS": "after_claim=kill;at_wait=hold", "AGENTCORE_FAILPOINT_DIR": str(tmp_path)}
    with pytest.raises(ValueError, match="before_clam"):
        failpoint_environment(tmp_path, before_clam="kill")


def test_a_spec_names_several_points() -> None:
    found = parse("after_claim=kill; mid_stream=raise:ConnectionError@5 ;at_wait=sleep:0.5*;")
    assert [(name, item.kind, item.argument, item.nth, item.times) for name, item in found.items()] == [
        ("after_claim", "kill", "", 0, 1),
        ("mid_stream", "raise", "ConnectionError", 5, 1),
        ("at_wait", "sleep", "0.5", 0, ALWAYS),
    ]


def test_an_armed_point_raises_once_and_others_do_nothing() -> None:
    with armed(before_commit="raise:OperationalError") as marks:
        failpoint("after_commit")
        with pytest.raises(OperationalError, match="before_commit"):
            failpoint("before_commit")
        failpoint("before_commit")
        assert marks.fired("before_commit") == 1
    failpoint("before_commit")


def test_an_armed_function_is_called_at_every_hit() -> None:
    seen: list[str] = []
    with armed(at_wait=lambda: seen.append("here")):
        failpoint("at_wait")
        failpoint("at_wait")
    failpoint("at_wait")
    assert seen == ["here", "here"]


def test_what_was_armed_before_is_armed_again_after() -> None:
    with armed(at_wait="raise*"):
        with armed(in_tool="raise"):
            failpoint("at_wait")
        with pytest.raises(FailpointRaised):
            failpoint("at_wait")


@pytest.mark.parametrize("name", ["at_wiat", "before_enque"])
def test_a_point_that_does_not_exist_cannot_be_armed(name: str) -> None:
    with pytest.raises(ValueError, match=name), armed(**{name: lambda: None}):
        pass


def test_a_hit_on_a_point_that_does_not_exist_is_an_error_while_any_is_armed() -> None:
    with armed(in_tool="raise"), pytest.raises(ValueError, match="in_toll"):
        failpoint("in_toll")


def test_nothing_can_be_armed_where_the_setting_does_not_allow_it(settings: LazySettings) -> None:
    settings.AGENTCORE = {}
    with pytest.raises(RuntimeError, match="FAILPOINTS"), armed(in_tool="raise"):
        pass


def test_a_held_thread_goes_on_when_it_is_released() -> None:
    with armed(at_wait="hold") as marks:
        thread = threading.Thread(target=failpoint, args=["at_wait"])
        thread.start()
        wait_for(lambda: marks.reached("at_wait"), 10, "the thread to be held")
        assert thread.is_alive()
        marks.release("at_wait")
        thread.join(10)
        assert not thread.is_alive()


async def test_a_held_task_does_not_hold_up_its_loop() -> None:
    with armed(at_wait="hold", in_tool="sleep:30") as marks:
        tasks = [asyncio.create_task(afailpoint(name)) for name in ("at_wait", "in_tool")]
        await asyncio.sleep(0.1)  # would take thirty seconds, or for ever, if either blocked
        assert marks.reached("at_wait") and not any(task.done() for task in tasks)
        marks.release("at_wait")
        await asyncio.wait_for(tasks[0], 10)
        tasks[1].cancel()


async def test_an_asynchronous_point_awaits_a_coroutine_function() -> None:
    seen: list[str] = []

    async def note() -> None:
        await asyncio.sleep(0)
        seen.append("here")

    with armed(mid_stream=note, after_claim="raise:TimeoutError"):
        await afailpoint("mid_stream")
        with pytest.raises(TimeoutError):
            await afailpoint("after_claim")
    await afailpoint("mid_stream")
    assert seen == ["here"]


def test_a_sleeping_point_takes_its_time() -> None:
    with armed(at_wait="sleep:0.2"):
        begun = time.monotonic()
        failpoint("at_wait")
        assert time.monotonic() - begun >= 0.2


def calls_in(package: Path) -> Iterator[tuple[Path, ast.Call]]:
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("failpoint", "afailpoint"):
                yield path, node


def points_staged() -> set[str]:
    """The points that are named where a commit is staged, and passed once it is committed."""
    trees = [ast.parse(path.read_text()) for path in sorted((ROOT / "agentcore" / "engine").rglob("*.py"))]
    keywords = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.keyword)]
    return {node.value.value for node in keywords if node.arg == "point" and isinstance(node.value, ast.Constant)}


def test_the_code_calls_points_by_names_that_exist() -> None:
    calls = [call for _, call in calls_in(ROOT / "agentcore")]
    named = {call.args[0].value for call in calls if isinstance(call.args[0], ast.Constant)} | points_staged()
    assert named == POINTS
