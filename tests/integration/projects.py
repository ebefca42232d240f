"""Other projects than the test run's own: a fresh database, and processes with settings of their own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

from django.db import connection

from tests.programs import output
from tests.stack import ROOT, database_url


@contextmanager
def empty_database(directory: Path) -> Iterator[str]:
    """The address of an empty database beside the test run's own, on the same server."""
    if connection.vendor == "sqlite":
        yield f"sqlite:///{directory / 'empty.sqlite3'}"
        return
    name = f"agentcore_{uuid4().hex[:12]}"
    parts = urlsplit(database_url())
    with connection._nodb_cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    try:
        yield parts._replace(path=f"/{name}").geturl()
    finally:
        with connection._nodb_cursor() as cursor:
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")


def python(*words: str, settings: str, database: str, **env: str) -> str:
    """Run the interpreter with warnings as errors and return what it said; fails with it where it failed."""
    ours = {"PYTHONPATH": str(ROOT), "DJANGO_SETTINGS_MODULE": settings, "DATABASE_URL": database}
    return output([sys.executable, "-W", "error", *words], cwd=ROOT, env={**os.environ, **ours, **env})
