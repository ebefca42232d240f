"""Whether the process that holds a lease still runs."""

from __future__ import annotations

from pathlib import Path

from ....engine.runtime import this_worker


def worker_is_alive(worker: str) -> bool:
    """Return whether a worker, named by host and pid, runs on this machine; one of another machine is taken to live."""
    host, _, pid = worker.rpartition(":")
    if host != this_worker().rpartition(":")[0] or not pid.isdigit():
        return True
    try:
        # The state stands after the name, which may hold anything, in brackets.
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"
