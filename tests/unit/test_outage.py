"""Errors of a database are told apart: a conflict, an outage, and what no waiting mends."""

from __future__ import annotations

import sqlite3

import psycopg
import pytest
from django.db import DataError, IntegrityError, InterfaceError, InternalError, OperationalError, ProgrammingError

from agentcore.database.outage import is_conflict, is_outage

pytestmark = pytest.mark.once


def caused(kind: type[Exception], cause: BaseException) -> Exception:
    error = kind("said by the database")
    error.__cause__ = cause
    return error


def postgres(kind: type[Exception], cause: type[psycopg.Error]) -> Exception:
    return caused(kind, cause("said by the server"))


def sqlite(code: int) -> Exception:
    cause = sqlite3.OperationalError("said by the library")
    cause.sqlite_errorcode = code
    return caused(OperationalError, cause)


CONFLICTS = {
    "deadlock": postgres(OperationalError, psycopg.errors.DeadlockDetected),
    "serialization": postgres(OperationalError, psycopg.errors.SerializationFailure),
    "lock timeout": postgres(OperationalError, psycopg.errors.LockNotAvailable),
    "busy": sqlite(sqlite3.SQLITE_BUSY),
    "busy snapshot": sqlite(sqlite3.SQLITE_BUSY_SNAPSHOT),
}
OUTAGES = {
    "connection lost": caused(OperationalError, psycopg.OperationalError("server closed the connection")),
    "shutting down": postgres(OperationalError, psycopg.errors.AdminShutdown),
    "crowded": postgres(OperationalError, psycopg.errors.TooManyConnections),
    "full": postgres(OperationalError, psycopg.errors.DiskFull),
    "statement timeout": postgres(OperationalError, psycopg.errors.QueryCanceled),
    "read-only": postgres(InternalError, psycopg.errors.ReadOnlySqlTransaction),
    "stood still": postgres(InternalError, psycopg.errors.IdleInTransactionSessionTimeout),
    "closed": caused(InterfaceError, psycopg.InterfaceError("connection already closed")),
    "no cause": OperationalError("gone"),
    "full file": sqlite(sqlite3.SQLITE_FULL),
    "cannot write": sqlite(sqlite3.SQLITE_IOERR_WRITE),
    "read-only file": sqlite(sqlite3.SQLITE_READONLY),
}
DEFECTS = {
    "no such table": sqlite(sqlite3.SQLITE_ERROR),
    "aborted": postgres(InternalError, psycopg.errors.InFailedSqlTransaction),
    "syntax": postgres(ProgrammingError, psycopg.errors.SyntaxError),
    "twice": postgres(IntegrityError, psycopg.errors.UniqueViolation),
    "nul": postgres(DataError, psycopg.errors.UntranslatableCharacter),
    "ours": ValueError("no database at all"),
}


@pytest.mark.covers("fault:D4")
@pytest.mark.parametrize("error", CONFLICTS.values(), ids=CONFLICTS.keys())
def test_a_conflict_may_be_tried_again_and_is_an_outage_to_whoever_gives_up(error: Exception) -> None:
    assert is_conflict(error) and is_outage(error)


@pytest.mark.covers("fault:D3", "fault:D6", "fault:D7")
@pytest.mark.parametrize("error", OUTAGES.values(), ids=OUTAGES.keys())
def test_an_outage_passes_but_its_transaction_is_not_simply_repeated(error: Exception) -> None:
    assert is_outage(error) and not is_conflict(error)


@pytest.mark.parametrize("error", DEFECTS.values(), ids=DEFECTS.keys())
def test_a_defect_is_neither(error: Exception) -> None:
    assert not is_outage(error) and not is_conflict(error)
