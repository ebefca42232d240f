"""What a database error proves: that it passes by itself, that the same work may run again, or that it was refused."""

from __future__ import annotations

from django.db import (
    DatabaseError,
    DataError,
    IntegrityError,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
)

__all__ = ["is_conflict", "is_outage", "is_refusal"]

# Serialization failure, deadlock, lock not available: the server has rolled back, and says so.
_CONFLICTS = frozenset({"40001", "40P01", "55P03"})
# Read-only, and a session ended because its transaction stood still, as a frozen process's does.
_INTERNAL_OUTAGES = frozenset({"25006", "25P03"})
# What is too large or too complex for the server is so at every try.
_LIMITS = "54"
# SQLite's primary codes. Busy and locked: another connection was in the way.
_SQLITE_CONFLICTS = frozenset({5, 6})
# Also: read-only, I/O error, full, cannot open.
_SQLITE_OUTAGES = _SQLITE_CONFLICTS | {8, 10, 13, 14}
# What the server says when it goes away, or does not know itself: the COMMIT may have been made before.
_UNKNOWN = ("08", "40003", "57P", "58", "F0", "XX")
# I/O error, corrupt, not a database: nobody knows what has reached the disk.
_SQLITE_UNKNOWN = frozenset({10, 11, 26})
_REFUSALS = (DataError, IntegrityError, NotSupportedError, ProgrammingError)


def is_conflict(error: BaseException) -> bool:
    """Whether another transaction was in the way of this one, which wrote nothing and may run again."""
    if not isinstance(error, OperationalError):
        return False
    return _state(error) in _CONFLICTS or _sqlite_code(error) in _SQLITE_CONFLICTS


def is_outage(error: BaseException) -> bool:
    """Whether the database cannot serve now, through no fault of the request: away, full, crowded or read-only."""
    if isinstance(error, InternalError):
        return _state(error) in _INTERNAL_OUTAGES
    if not isinstance(error, (OperationalError, InterfaceError)):
        return False
    code = _sqlite_code(error)
    if code is not None:
        return code in _SQLITE_OUTAGES
    return not (_state(error) or "").startswith(_LIMITS)


def is_refusal(error: BaseException) -> bool:
    """Whether the database has refused the statement, and rolled back its transaction: nothing of it was written."""
    if isinstance(error, _REFUSALS):
        return True
    if not isinstance(error, DatabaseError):
        return False
    code, state = _sqlite_code(error), _state(error)
    if code is not None:
        return code not in _SQLITE_UNKNOWN
    return state is not None and not state.startswith(_UNKNOWN)


def _state(error: BaseException) -> str | None:
    state: str | None = getattr(error.__cause__, "sqlstate", None)
    return state


def _sqlite_code(error: BaseException) -> int | None:
    """Return SQLite's primary result code; None where the error is another database's."""
    code: int | None = getattr(error.__cause__, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
