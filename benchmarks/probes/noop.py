"""A worker of agentcore whose runs are nothing: each job is noted with its time, and that is all of it.

python -m benchmarks.probes.noop <management command of a worker> …
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from django.core.management import execute_from_command_line

from agentcore.engine.drive import Outcome
from agentcore.services import execution

TIMES = "BENCH_TIMES"


def _note() -> Outcome:
    file = os.open(os.environ[TIMES], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, f"{time.time()}\n".encode())
    os.close(file)
    return Outcome.NOTHING


async def _adrive(*args: Any, **kwargs: Any) -> Outcome:
    return _note()


def _drive(*args: Any, **kwargs: Any) -> Outcome:
    return _note()


if __name__ == "__main__":
    execution.adrive, execution.drive = _adrive, _drive  # type: ignore[assignment]
    execute_from_command_line(["manage.py", *sys.argv[1:]])
