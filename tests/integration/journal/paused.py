"""A statement that has begun, and has not locked its rows yet: what it sees of other tables is older than its locks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from django.db import connections

from agentcore.journal import postgres as executor
from agentcore.models import Run
from tests.faults import postgres
from tests.stack import wait_for

LOCK = 4242
PAUSED = (
    "WITH wanted AS MATERIALIZED (SELECT w.*, CASE WHEN w.id = '{run}' AND {when} "
    f"THEN pg_advisory_xact_lock_shared({LOCK})::text END AS paused FROM ({{{{wanted}}}}) w)"
)
WAITING = f"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = {LOCK} AND NOT granted"


@contextmanager
def paused(run: Run, when: str, meanwhile: Callable[[], Any]) -> Iterator[None]:
    """Have the first statement about a run that meets a condition wait when it has begun, while something happens."""
    text = executor.STATEMENT.replace("WITH wanted AS ({wanted})", PAUSED.format(run=run.pk, when=when))
    assert text != executor.STATEMENT
    held, over = threading.Event(), threading.Event()

    def act() -> None:
        with postgres.session() as holder:
            holder.execute(f"SELECT pg_advisory_lock({LOCK})")
            held.set()
            try:
                wait_for(lambda: holder.execute(WAITING).fetchone() == (1,), 30, "the statement to begin")
                meanwhile()
                over.set()
            finally:
                connections.close_all()

    other = threading.Thread(target=act)
    with mock.patch.object(executor, "STATEMENT", text):
        executor._statement.cache_clear()
        other.start()
        try:
            assert held.wait(30)
            yield
        finally:
            other.join(60)
            executor._statement.cache_clear()
    assert over.is_set() and not other.is_alive()
