"""What a worker's process prepares before it forks: all of it is there in the horse, and nothing that must not be."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from agentcore.jobs import prefork
from supportdemo.servers import free_port
from tests.stack import ROOT, Stack, wait_for
from tests.testapp import agents
from tests.testapp.witness import SAYS

BESIDE = """
import gc, json, os, threading
import django
django.setup()
from django.db import connections
import agentcore.jobs.worker
from agentcore.declaration import registry
from agentcore.jobs import prefork
said = []
prefork.logger.warning = lambda *args, **kwargs: said.append(args)
descriptors = set(os.listdir("/proc/self/fd"))
prefork.prepare()
print(json.dumps({
    "said": said,
    "described": all("tool_specs" in vars(registry.get(name)) for name in registry.names()),
    "opened": sorted(set(os.listdir("/proc/self/fd")) - descriptors),
    "threads": [thread.name for thread in threading.enumerate()],
    "connected": [it.alias for it in connections.all() if it.connection is not None],
    "frozen": gc.get_freeze_count() > 0,
}))
"""


@pytest.mark.django_db(transaction=True)
def test_a_horse_loads_and_compiles_nothing_that_its_parent_has_prepared(
    stack: Stack, make_thread: Callable[..., Any]
) -> None:
    runs = [agents.echo.runs.send(thread := make_thread(), "hello", user=thread.owner) for _ in range(3)]
    worker = stack.manage(
        "worker", "rqworker", "agentcore", "--burst", "--worker-class", "tests.testapp.witness.WitnessWorker"
    )
    wait_for(lambda: worker.text.count(SAYS) == len(runs), 60, "the horses to say what they found")
    for line in worker.text.splitlines():
        if line.startswith(SAYS):
            assert json.loads(line.removeprefix(SAYS)) == {
                "modules": [],
                "made": [],
                "connected": [],
                "frozen": True,
            }
    for run in runs:
        run.refresh_from_db()
        assert run.status == "succeeded"


@pytest.mark.once
@pytest.mark.parametrize("database", ["postgres://nobody@127.0.0.1:{port}/none", "sqlite:////nowhere/none.sqlite3"])
def test_preparing_opens_nothing_starts_nothing_and_needs_neither_database_nor_redis(database: str) -> None:
    dead = free_port()
    env = {
        **os.environ,
        "DATABASE_URL": database.format(port=dead),
        "REDIS_URL": f"redis://127.0.0.1:{dead}/0",
        "DJANGO_SETTINGS_MODULE": "supportdemo.settings",
    }
    done = subprocess.run([sys.executable, "-c", BESIDE], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "said": [],
        "described": True,
        "opened": [],
        "threads": ["MainThread"],
        "connected": [],
        "frozen": True,
    }


@pytest.mark.once
def test_what_cannot_be_prepared_is_logged_and_the_rest_is_prepared(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    prepared = []

    def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(prefork, "PARTS", (broken, lambda: prepared.append("the rest")))
    monkeypatch.setattr(prefork.gc, "freeze", lambda: prepared.append("frozen"))
    with caplog.at_level(logging.WARNING, logger="agentcore.jobs"):
        prefork.prepare()
    assert prepared == ["the rest", "frozen"]
    assert "ZeroDivisionError" in caplog.text
