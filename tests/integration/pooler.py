"""A PgBouncer of a test's own in front of the run's PostgreSQL, as the documentation sets it up."""

from __future__ import annotations

import configparser
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
from django.db import connection

from supportdemo.servers import launch
from tests.docs.pages import blocks
from tests.servers import DIRECTORY_VARIABLE
from tests.stack import wait_for

# Debian's place is not on everybody's path.
PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
LEFT = """
SELECT (SELECT count(*) FROM pg_prepared_statements), (SELECT count(*) FROM pg_cursors),
    (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
    (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()),
    (SELECT count(*) FROM pg_listening_channels()),
    (SELECT count(*) FROM pg_settings WHERE source = 'session' AND name NOT IN ({tracked}))
"""
TRACKED = ("application_name", "client_encoding", "DateStyle", "standard_conforming_strings", "TimeZone")
"""What a PgBouncer sets again for each client."""


@dataclass(frozen=True)
class Pooler:
    """A running PgBouncer, which has `size` sessions at the server for all its clients."""

    directory: Path
    size: int

    @property
    def url(self) -> str:
        """The address of the test's database behind it."""
        settings = connection.settings_dict
        return f"postgresql://{quote(settings['USER'])}@/{settings['NAME']}?host={quote(str(self.directory))}"

    @property
    def env(self) -> dict[str, str]:
        """The environment of processes that work through it."""
        return {"DJANGO_SETTINGS_MODULE": "tests.settings.pooled", "DATABASE_URL": self.url}

    def client(self, **options: Any) -> psycopg.Connection[Any]:
        """A client beside Django's."""
        return psycopg.connect(self.url, **options)

    def left_in_sessions(self) -> list[tuple[int, ...]]:
        """By session, how many prepared statements, cursors, locks, tables, channels and settings are handed on."""
        question = LEFT.format(tracked=", ".join(f"'{name}'" for name in TRACKED))
        with ExitStack() as stack:
            # Each in a transaction, which no two have the same session for.
            clients = [stack.enter_context(self.client(prepare_threshold=None)) for _ in range(self.size)]
            return [client.execute(question.encode()).fetchone() or () for client in clients]


@contextmanager
def started(size: int) -> Iterator[Pooler]:
    """Start one, and end it at last."""
    assert PGBOUNCER is not None, "apt-get install pgbouncer"
    data = (Path(os.environ[DIRECTORY_VARIABLE]) / "pg").stat()
    # It refuses to be root's, as PostgreSQL does.
    owner = {"user": data.st_uid, "group": data.st_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    with tempfile.TemporaryDirectory() as name:  # whose path is short enough for a socket's
        directory, ini = Path(name), Path(name) / "pgbouncer.ini"
        os.chown(directory, data.st_uid, data.st_gid)
        with ini.open("w") as file:
            _configuration(directory, size).write(file)
        process = launch([PGBOUNCER, ini], directory / "log", **owner)
        try:
            wait_for((directory / ".s.PGSQL.5432").exists, 10, "the pooler to listen")
            yield Pooler(directory, size)
        finally:
            process.kill()
            process.wait()


def _configuration(directory: Path, size: int) -> configparser.ConfigParser:
    """Return the page's, at the test's own addresses; as its socket is the run's, nobody has to say who he is."""
    behind = [block for block in blocks("docs/howto/deploy.md") if "Behind PgBouncer" in block.headings]
    (page,) = (block.text for block in behind if block.language == "ini")
    found = configparser.ConfigParser()
    found.read_string(page)
    found["databases"] = {"*": "host={HOST} user={USER}".format(**connection.settings_dict)}
    pgbouncer = found["pgbouncer"]
    del pgbouncer["listen_addr"], pgbouncer["auth_file"]
    pgbouncer.update(auth_type="any", default_pool_size=str(size), listen_port="5432", unix_socket_dir=str(directory))
    return found
