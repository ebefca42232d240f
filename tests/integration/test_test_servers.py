"""The servers of a test run are private and end with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from supportdemo import servers
from tests.programs import lives
from tests.stack import ROOT, wait_for

pytestmark = pytest.mark.once

SCRIPT = """
import json, os, sys
from tests.servers import Servers
servers = Servers()
servers.start_redis()
if "postgres" in sys.argv:
    servers.start_postgres()
names = ("REDIS_URL", "DATABASE_URL", "AGENTCORE_TEST_DIR")
print(json.dumps({name: os.environ.get(name, "") for name in names}), flush=True)
sys.stdin.read()
servers.stop()
"""


def start(*words: str) -> tuple[subprocess.Popen[str], dict[str, str]]:
    child = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *words],
        cwd=ROOT,
        # PostgreSQL's wheel keeps a lock in the temporary directory, and the path of a socket must be short.
        env={**os.environ, "DATABASE_URL": "", "TMPDIR": os.environ["AGENTCORE_TEST_DIR"]},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    return child, json.loads(child.stdout.readline())


def answers(url: str) -> bool:
    try:
        with redis.Redis.from_url(url, socket_connect_timeout=1) as client:
            return bool(client.ping())
    except redis.ConnectionError:
        return False


def test_nothing_is_left_when_a_run_ends() -> None:
    child, given = start("postgres")
    assert answers(given["REDIS_URL"])
    pid = int((Path(given["AGENTCORE_TEST_DIR"]) / "pg" / "postmaster.pid").read_text().split()[0])
    assert lives(pid)
    child.communicate("", timeout=30)
    assert child.returncode == 0
    assert not answers(given["REDIS_URL"])
    assert not lives(pid)
    assert not Path(given["AGENTCORE_TEST_DIR"]).exists()


def test_nothing_is_left_of_a_run_that_is_killed() -> None:
    child, given = start("postgres")
    pid = int((Path(given["AGENTCORE_TEST_DIR"]) / "pg" / "postmaster.pid").read_text().split()[0])
    child.send_signal(signal.SIGKILL)
    child.communicate(timeout=30)
    wait_for(lambda: not (answers(given["REDIS_URL"]) or lives(pid)), 20, "the servers to end")
    wait_for(lambda: not Path(given["AGENTCORE_TEST_DIR"]).exists(), 20, "their directory to be removed")


def test_each_run_has_its_own_servers() -> None:
    child, given = start()
    assert given["REDIS_URL"] != os.environ["REDIS_URL"]
    assert given["AGENTCORE_TEST_DIR"] != os.environ["AGENTCORE_TEST_DIR"]
    child.communicate("", timeout=30)


def test_redis_on_the_path_is_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = tmp_path / "valkey-server"
    ours.write_text("#!/bin/sh\n")
    ours.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert servers.find_redis_server() == ours


def test_without_any_redis_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(servers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(servers.RedisMissing, match="install Redis or Valkey, or set REDIS_URL"):
        servers.find_redis_server()
