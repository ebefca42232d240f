"""Everything that can be measured: which module, on which store, with which arguments, how often."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

from .servers import ROOT

PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"


@dataclass(frozen=True)
class Case:
    """One configuration: a module that is run in a process of its own, once a round."""

    part: str
    name: str
    module: str
    store: str = "postgres"
    arguments: tuple[str, ...] = ()
    most_rounds: int = 100
    quick: bool = False
    peer: bool = False
    timeout: float = 240

    @property
    def migrated(self) -> bool:
        """Whether it needs agentcore's tables."""
        return ".probes." in self.module

    @property
    def command(self) -> list[str]:
        """What is run."""
        python = str(PEERS_PYTHON) if self.peer else sys.executable
        return [python, "-m", self.module, "--store", self.store, *self.arguments]

    def shortened(self) -> Case:
        """The same for a quick look: fewer runs, and not for long."""
        return replace(self, arguments=("--in-flight", "1", "32", "--runs", "60", "256", "--seconds", "4"))


# Others are compared with these: the label of a ratio, and the name and store of the subject.
REFERENCES = {
    "psycopg": ("floor: psycopg", "postgres"),
    "ORM": ("floor: Django ORM", "postgres"),
    "DBOS": ("DBOS: sync steps", "postgres"),
    "LangGraph": ("LangGraph: agent, sync", "postgres"),
}

FLOORS = "benchmarks.floors"
PROBES = "benchmarks.probes"
PEERS = "benchmarks.peers"

CASES = (
    Case("B1", "floor: psycopg", f"{FLOORS}.psycopg_floor", quick=True),
    Case("B1", "floor: Django ORM", f"{FLOORS}.orm_floor", quick=True),
    Case("B1", "agentcore: engine", f"{PROBES}.engine", quick=True),
    Case("B1", "agentcore: send", f"{PROBES}.send"),
    Case("B1", "DBOS: sync steps", f"{PEERS}.dbos_steps", quick=True, peer=True),
    Case("B1", "LangGraph: agent, sync", f"{PEERS}.langgraph_agent", quick=True, peer=True),
    Case("B1", "floor: sqlite3", f"{FLOORS}.sqlite_floor", "sqlite"),
    Case("B1", "floor: Django ORM", f"{FLOORS}.orm_floor", "sqlite"),
    Case("B1", "agentcore: engine", f"{PROBES}.engine", "sqlite"),
    Case("B1", "agentcore: send", f"{PROBES}.send", "sqlite"),
)


def chosen(only: str, peers: bool, quick: bool) -> list[Case]:
    """Return the cases of a run; `only` names parts, or pieces of names, separated by commas."""
    words = [word.strip() for word in only.split(",") if word.strip()]
    found = [case for case in CASES if (peers or not case.peer) and (case.quick or not quick)]
    if words:
        found = [case for case in found if any(word in (case.part, case.store) or word in case.name for word in words)]
    return [case.shortened() for case in found] if quick else found
