"""`make test` says how its passes get on, shows what failed, and fails if any of them does."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.stack import ROOT, wait_for
from tests.tools.passes import TARGETS, Pass, commands, play, verdict

pytestmark = pytest.mark.once


def saying(directory: Path, name: str, *lines: str, status: int = 0) -> Pass:
    """A pass that says this and ends."""
    code = f"import sys; print({chr(10).join(lines)!r}); sys.exit({status})"
    return Pass(name, [sys.executable, "-c", code], directory / name)


def test_all_of_a_pass_that_fails_is_shown_at_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = saying(tmp_path, "bad", "tests/test_a.py .F [100%]", "assert 1 == 2", "== 1 failed ==", status=1)
    well = saying(tmp_path, "well", "tests/test_a.py .. [100%]", "told to nobody", "== 2 passed in 3s ==")
    assert play([bad, well], every=0.05) == 1
    said = capsys.readouterr().out
    assert "well: 2 passed in 3s" in said and "told to nobody" not in said
    assert said.endswith("== bad\ntests/test_a.py .F [100%]\nassert 1 == 2\n== 1 failed ==\n\n")


def test_progress_is_the_last_percentage_and_tells_of_failures(tmp_path: Path) -> None:
    one = saying(tmp_path, "one")
    assert one.progress() == "one 0 %"
    one.log.write_text("tests/test_a.py ..s..   [  9%]\n...x [ 12%]\ntests/test_b.py ..")
    assert one.progress() == "one 12 %"
    one.log.write_text("tests/test_a.py ..s..   [  9%]\n..E. [ 12%]\n")
    assert one.progress() == "one 12 %, with failures"


def test_all_are_under_way_at_once(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys, time; mark = pathlib.Path(sys.argv[1]); mark.touch()\n"
        "while len(list(mark.parent.iterdir())) < 3: time.sleep(0.01)"
    )
    marks = tmp_path / "marks"
    marks.mkdir()
    passes = [Pass(name, [sys.executable, "-c", code, str(marks / name)], tmp_path / name) for name in "abc"]
    assert play(passes, every=0.01) == 0


@pytest.mark.parametrize(
    ("statuses", "status"),
    [([0, 0], 0), ([0, 1], 1), ([5, 0], 0), ([5, 1], 1), ([5, 5], 5), ([0, -9], 1), ([0, None], 1)],
)
def test_a_pass_without_a_test_to_run_is_no_failure_unless_all_are(statuses: list[int | None], status: int) -> None:
    assert verdict(statuses) == status


def test_an_interrupt_ends_every_pass(tmp_path: Path) -> None:
    ends = tmp_path / "ends"
    ends.mkdir()
    code = (
        "import pathlib, sys, time\n"
        "try:\n"
        "    print('begun', flush=True); time.sleep(60)\n"
        "except KeyboardInterrupt:\n"
        "    pathlib.Path(sys.argv[1]).touch()\n"
    )
    play_both = (
        "import signal, sys; from pathlib import Path; from tests.tools.passes import Pass, play\n"
        # A shell that starts the suite in the background has its processes ignore the signal.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"passes = [Pass(n, [sys.executable, '-c', {code!r}, sys.argv[1] + '/ends/' + n],"
        " Path(sys.argv[1]) / n) for n in 'ab']\n"
        "sys.exit(play(passes))"
    )
    whole = subprocess.Popen([sys.executable, "-c", play_both, str(tmp_path)], cwd=ROOT)
    wait_for(lambda: all((tmp_path / n).exists() and (tmp_path / n).read_text() for n in "ab"), 20, "both passes")
    began = time.monotonic()
    whole.send_signal(signal.SIGINT)
    assert whole.wait(20) == 130 and time.monotonic() - began < 20
    assert {mark.name for mark in ends.iterdir()} == {"a", "b"}


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_takes_its_rows_on_both_databases_in_one_order(target: str) -> None:
    both = commands(target, 7, ["-k", "name"], 2)
    assert sorted(both) == ["PostgreSQL", "SQLite"]
    for name, command in both.items():
        assert f"--ds=tests.settings.{name.lower()}".replace("postgresql", "postgres") in command
        assert f"--take={target}" in command and "--randomly-seed=7" in command and command[-2:] == ["-k", "name"]
    # Only what knows no database is left out, and only on one of them.
    assert "not once" in both["PostgreSQL"] and "-m" not in both["SQLite"][3:]


def test_more_wait_side_by_side_than_there_are_processors() -> None:
    workers = [int(command[command.index("--numprocesses") + 1]) for command in commands("test", 1, [], 2).values()]
    assert sum(workers) > 2 and all(workers)
    assert all(int(c[c.index("--numprocesses") + 1]) >= 1 for c in commands("test", 1, [], 1).values())


def test_pytest_has_the_attribute_that_xdist_writes_a_group_into(request: pytest.FixtureRequest) -> None:
    """Where it has not, xdist runs the tests of a group in any process, and says nothing."""
    assert request.node._nodeid == request.node.nodeid
