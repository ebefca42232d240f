"""Transactions that fail rather than wait for a lock, for work that the next pass can do as well."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import transaction

from ..journal import fence

# A row is locked for milliseconds, or by a process that hangs; then the next pass tries again.
PATIENCE_MS = 200


@contextmanager
def impatient() -> Iterator[None]:
    """Open a transaction that does not wait long for a row: a locked one must not stop every sweeper."""
    with transaction.atomic():
        fence.wait_no_longer_than(PATIENCE_MS)
        yield
