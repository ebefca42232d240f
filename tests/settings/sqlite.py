"""The suite on SQLite: a file, so that worker and web processes can open what a test wrote."""

from __future__ import annotations

import os

from supportdemo.environment import database
from tests.settings.base import *  # noqa: F403
from tests.settings.base import DIRECTORY

_database = database(os.environ.get("DATABASE_URL") or f"sqlite:///{DIRECTORY / 'test.sqlite3'}")

DATABASES = {"default": {**_database, "TEST": {"NAME": _database["NAME"]}}}
