"""What a lone process does: drive one run, and end; or end at once where its worker does."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import wait

from .execute import execute_run
from .exits import leave

logger = logging.getLogger("agentcore.jobs")


def drive_alone(run_id: str) -> None:
    """Drive a run as the only one of this process, which leads its own group."""
    os.setsid()
    threading.Thread(target=_end_with_the_worker, name="agentcore-parent", daemon=True).start()
    try:
        execute_run(run_id)
    except BaseException:
        logger.exception("a run driven alone was dropped", extra={"run_id": run_id, "action": "dropped"})
        leave(1)  # not by the interpreter's own exit: a tool's thread may never end
    leave(0)


def _end_with_the_worker() -> None:
    """Kill this process and all it has started once its worker is gone: the server it was forked from lives on."""
    worker = multiprocessing.parent_process()
    if worker is not None:
        wait([worker.sentinel])
        os.killpg(0, signal.SIGKILL)
