"""Transactions that rather fail than wait: for what another pass can do as well."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import transaction

from ..journal import fence

# A row is held for milliseconds, or by a process that hangs; then it is the next pass's.
PATIENCE_MS = 200


@contextmanager
def impatient() -> Iterator[None]:
    """Open a transaction that does not wait long for a row: one that is held must not stop every sweeper."""
    with transaction.atomic():
        fence.wait_no_longer_than(PATIENCE_MS)
        yield
