"""Units of work: a transaction that ran into another one runs again, from its first read on."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from django.db import OperationalError, connection

from ..values.logextra import log_extra
from .outage import is_conflict

logger = logging.getLogger("agentcore.engine")

RETRIES = 5
# A request does not wait for longer: its client is told to come back.
PATIENCE = 5.0
FIRST_PAUSE = 0.02

P = ParamSpec("P")
T = TypeVar("T")


def unit(function: Callable[P, T]) -> Callable[P, T]:
    """Run the function again, up to five times, where a deadlock or the like rolled its transaction back.

    Inside a caller's transaction it runs once: what has failed there is not only this function's work.
    What the function does outside the database it must leave to `on_commit`.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        gives_up_at = time.monotonic() + PATIENCE
        for retry in range(RETRIES + 1):
            try:
                return function(*args, **kwargs)
            except OperationalError as error:
                if not is_conflict(error) or connection.in_atomic_block:
                    raise
                if retry == RETRIES or time.monotonic() > gives_up_at:
                    raise
                logger.info("%s runs again: %s", function.__name__, error, extra=log_extra("unit_retried"))
                time.sleep(random.uniform(0, FIRST_PAUSE * 2**retry))  # noqa: S311 - jitter, not a secret
        raise AssertionError("unreachable")

    return call
