"""Everything that can be measured: which module, on which store, with which arguments, how often."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .servers import ROOT, Content
from .workload import W1, W2, Workload

PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"


@dataclass(frozen=True)
class Case:
    """One configuration: a module that is run in a process of its own, once a round."""

    part: str
    name: str
    module: str
    store: str = "postgres"
    arguments: tuple[str, ...] = ()
    content: Content = Content.NOTHING
    most_rounds: int = 100
    quick: bool = False
    peer: bool = False
    timeout: float = 240
    settings: Mapping[str, float] = field(default_factory=dict)
    """Of agentcore, where they are not the defaults."""

    @property
    def command(self) -> list[str]:
        """What is run."""
        python = str(PEERS_PYTHON) if self.peer else sys.executable
        return [python, "-m", self.module, "--store", self.store, *self.arguments]

    def shortened(self) -> Case:
        """The same for a quick look: fewer runs, and not for long."""
        fewer = ("--in-flight", "1", "32", "--runs", "60", "256", "--seconds", "4")
        return replace(self, arguments=(*self.arguments, *fewer))


# Others are compared with these: the label of a ratio, and the names of the subject.
REFERENCES = {
    "by hand": ("floor: psycopg", "floor: sqlite3"),
    "ORM": ("floor: Django ORM",),
    "DBOS": ("DBOS: sync steps",),
    "LangGraph": ("LangGraph: agent, sync",),
}

FLOORS = "benchmarks.floors"
PROBES = "benchmarks.probes"
PEERS = "benchmarks.peers"


def _in_process(name: str, module: str, workload: Workload, store: str = "postgres", **more: Any) -> Case:
    return Case(workload.part, name, module, store, ("--workload", workload.name), **more)


def _compared(workload: Workload) -> tuple[Case, ...]:
    """Return the engine, what is possible by hand, and the peers, on PostgreSQL."""
    return (
        _in_process("floor: psycopg", f"{FLOORS}.psycopg_floor", workload, quick=True),
        _in_process("floor: Django ORM", f"{FLOORS}.orm_floor", workload, quick=True),
        _in_process("agentcore: engine", f"{PROBES}.engine", workload, content=Content(workload.name), quick=True),
        _in_process("DBOS: sync steps", f"{PEERS}.dbos_steps", workload, quick=True, peer=True),
        _in_process("LangGraph: agent, sync", f"{PEERS}.langgraph_agent", workload, quick=True, peer=True),
    )


def _send(store: str = "postgres") -> Case:
    return Case("B1", "agentcore: send", f"{PROBES}.send", store, content=Content.TABLES)


def _through_rq(worker: str, store: str = "postgres") -> Case:
    queued, jobs = {"rqworker": (60, 150), "agentcore_worker": (320, 1500)}[worker]
    # What RQ itself takes has nothing to do with the database.
    counts = ("--queued", str(queued), "--jobs", str(jobs if store == "postgres" else 0))
    arguments = ("--worker", worker, *counts)
    return Case("B1", f"agentcore: {worker}", f"{PROBES}.through_rq", store, arguments, Content.W1)


def _latency(*arguments: str, name: str = "latency") -> Case:
    return Case("B4", name, f"{PROBES}.latency", arguments=arguments, content=Content.TABLES, most_rounds=5)


def _take_over(way: str, store: str = "postgres", times: int = 2, most_rounds: int = 3, **settings: float) -> Case:
    name = ", ".join(["take-over", way, *(f"{key}={value:g}" for key, value in settings.items())])
    arguments = ("--way", way, "--times", str(times))
    return Case("B7", name, f"{PROBES}.take_over", store, arguments, Content.TABLES, most_rounds, settings=settings)


CASES = (
    *_compared(W1),
    _send(),
    _in_process("agentcore: send + engine", f"{PROBES}.send_and_engine", W1, content=Content.TABLES),
    _through_rq("agentcore_worker"),
    _through_rq("rqworker"),
    _in_process("floor: sqlite3", f"{FLOORS}.sqlite_floor", W1, "sqlite"),
    _in_process("floor: Django ORM", f"{FLOORS}.orm_floor", W1, "sqlite"),
    _in_process("agentcore: engine", f"{PROBES}.engine", W1, "sqlite", content=Content.W1),
    _send("sqlite"),
    _through_rq("agentcore_worker", "sqlite"),
    _through_rq("rqworker", "sqlite"),
    *_compared(W2),
    _latency(),
    _latency("--streaming", "200", name="latency under load"),
    Case("B5", "a long thread", f"{PROBES}.long_thread", content=Content.TABLES),
    Case("B5", "a long thread", f"{PROBES}.long_thread", "sqlite", content=Content.TABLES),
    Case(
        "B5",
        "waiting approvals",
        f"{PROBES}.at_rest",
        arguments=("--approvals", "10000"),
        content=Content.W1,
        most_rounds=3,
    ),
    Case(
        "B5",
        "many events",
        f"{PROBES}.at_rest",
        arguments=("--events", os.environ.get("EVENTS") or "10000000"),
        content=Content.W1,
        most_rounds=1,
        timeout=900,
    ),
    Case("B6", "many streams", f"{PROBES}.many_streams", content=Content.TABLES, most_rounds=3),
    # A short lease for many kills; the default one takes its time.
    _take_over("kill", LEASE_SECONDS=4),
    _take_over("kill", times=1, most_rounds=1),
    _take_over("stop", most_rounds=2),
    _take_over("kill", "sqlite", most_rounds=1, LEASE_SECONDS=4),
    _take_over("stop", "sqlite", times=1, most_rounds=1),
)


def chosen(only: str, peers: bool, quick: bool) -> list[Case]:
    """Return the cases of a run; `only` names parts, or pieces of names, separated by commas."""
    words = [word.strip() for word in only.split(",") if word.strip()]
    found = [case for case in CASES if (peers or not case.peer) and (case.quick or not quick)]
    if words:
        found = [case for case in found if any(word in (case.part, case.store) or word in case.name for word in words)]
    return [case.shortened() for case in found] if quick else found
