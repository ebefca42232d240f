"""One environment for all pages, with the built wheel in it, and a project that each page gets a copy of."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import LiteralString
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
import redis

from tests.docs.pages import ROOT, blocks
from tests.docs.project import Project

ADD = "docs/howto/add-to-a-project.md"
MAKE = """#!/bin/sh
# What a page does with the checkout is said, and not done.
exec {make} --dry-run --directory {root} "$@"
"""


def clean_environment() -> dict[str, str]:
    """This process's environment without what the suite has put there."""
    ours = (
        "PYTHONPATH",
        "PYTHONHOME",
        "DJANGO_SETTINGS_MODULE",
        "DATABASE_URL",
        "VIRTUAL_ENV",
        "AGENTCORE_",
        "COVERAGE",
    )
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


@pytest.fixture(scope="session")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment with the wheel, which borrows everything else from the one that runs the tests."""
    directory = tmp_path_factory.mktemp("pages") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True, timeout=100)
    bin_, ours = directory / "bin", Path(sysconfig.get_path("scripts"))
    packages = next(directory.glob("lib/python*/site-packages"))
    # Only a path: what is installed there in editable form is not seen through it.
    (packages / "borrowed.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    for script in ours.iterdir():
        if script.is_file() and not (bin_ / script.name).exists():
            first, _, rest = script.read_bytes().partition(b"\n")
            if first.startswith(b"#!") and b"python" in first:
                (bin_ / script.name).write_bytes(f"#!{bin_ / 'python'}\n".encode() + rest)
                (bin_ / script.name).chmod(0o755)
    (bin_ / "make").write_text(MAKE.format(make=shutil.which("make"), root=ROOT))
    (bin_ / "make").chmod(0o755)
    install = ["pip", "install", "--quiet", "--no-index", "--no-deps", "--ignore-installed", str(wheel)]
    subprocess.run([bin_ / "python", "-m", *install], check=True, env=clean_environment(), timeout=100)
    return bin_


@pytest.fixture(scope="session")
def environment(programs: Path, wheel: Path) -> dict[str, str]:
    """What the pages' commands find around them: the programs, this run's servers, and no network."""
    env = clean_environment() | {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PIP_NO_INDEX": "1",
        "PIP_NO_DEPS": "1",  # they are borrowed; tests/packaging installs them
        "PIP_FIND_LINKS": str(wheel.parent),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PYTHONUNBUFFERED": "1",
        "REDIS_URL": os.environ["REDIS_URL"],
    }
    address = urlsplit(os.environ["DATABASE_URL"])
    if address.scheme.startswith("postgres"):
        (host,) = parse_qs(address.query).get("host", [address.hostname or ""])
        env |= {"PGHOST": host, "PGPORT": str(address.port or 5432), "PGUSER": address.username or ""}
        env |= {"PGPASSWORD": address.password or ""}
    return env


@pytest.fixture(scope="session")
def database() -> str:
    """Which database the pages are followed on: that of the test run."""
    return "PostgreSQL" if os.environ["DATABASE_URL"].startswith("postgres") else "SQLite"


@pytest.fixture(scope="session")
def empty_projects(environment: dict[str, str], database: str) -> Callable[[Path], Project]:
    """A function that makes an empty directory for a page, with the servers emptied first."""

    def make(directory: Path) -> Project:
        with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
            client.flushall()
        directory.mkdir(parents=True, exist_ok=True)
        return Project(directory, environment, database)

    return make


@pytest.fixture
def nowhere(empty_projects: Callable[[Path], Project], tmp_path: Path) -> Iterator[Project]:
    """An empty directory."""
    with empty_projects(tmp_path / "site") as project:
        yield project
        project.stop()


@pytest.fixture(scope="session")
def shop(
    empty_projects: Callable[[Path], Project], database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """The project to which agentcore was added, as its page says, with all processes ended again."""
    with _database_of_the_shop(database):
        with empty_projects(tmp_path_factory.mktemp("shop") / "site") as project:
            project.follow(blocks(ADD))
            project.stop()
        yield project.directory


@contextmanager
def _database_of_the_shop(kind: str) -> Iterator[None]:
    """What a reader's own server has: an empty database of the name that the page uses."""
    if kind == "SQLite":
        yield
        return
    _tell_the_server("CREATE DATABASE shop")
    try:
        yield
    finally:
        _tell_the_server("DROP DATABASE shop WITH (FORCE)")


def _tell_the_server(statement: LiteralString) -> None:
    with psycopg.connect(os.environ["DATABASE_URL"], dbname="postgres", autocommit=True) as server:
        server.execute(statement)


@pytest.fixture
def project(shop: Path, empty_projects: Callable[[Path], Project], tmp_path: Path) -> Iterator[Project]:
    """A copy of that project."""
    shutil.copytree(shop, tmp_path / "site")
    with empty_projects(tmp_path / "site") as project:
        yield project
        project.stop()
