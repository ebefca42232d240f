"""The sweep inside a worker: a thread with a database connection of its own."""

from __future__ import annotations

import logging
import threading

from django.db import Error as DatabaseError
from django.db import connections

from ..services import sweep
from ..values.logextra import log_extra

logger = logging.getLogger("agentcore.sweep")


class Sweeper:
    """Sweeps every few seconds until it is stopped, as long as it has the sweep's lease."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.loop, name="agentcore-sweep", daemon=True)

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread.start()

    def stop(self, *ignored: object) -> None:
        """End after the pass under way; may be called from a signal handler."""
        self._stop.set()

    def join(self, seconds: float) -> None:
        """Wait for the end, not for ever."""
        self._thread.join(seconds)

    def loop(self) -> None:
        """Sweep until stopped; whatever goes wrong is logged, and the next pass tries again."""
        try:
            while not self._stop.wait(self._pass()):
                pass
            sweep.release_lease(self._name)
        except DatabaseError:
            logger.warning("the sweep's lease was not given up; it runs out by itself")
        finally:
            connections.close_all()

    def _pass(self) -> float:
        """Sweep once if this sweeper has the lease; return how many seconds to wait for the next pass."""
        try:
            report = sweep.sweep_with_lease(self._name)
            return sweep.interval() if report is None else sweep.seconds_until_next()
        except DatabaseError:
            logger.warning("the database did not answer; sweeping again soon", exc_info=True)
        except Exception:
            logger.exception("a pass was broken off; sweeping again soon", extra=log_extra("sweep_failed"))
        connections.close_all()
        return sweep.interval()
