"""The suite on PostgreSQL, at the DATABASE_URL that the test run's plugin exports."""

from __future__ import annotations

import os

from supportdemo.environment import database
from tests.settings.base import *  # noqa: F403

DATABASES = {"default": database(os.environ.get("DATABASE_URL") or "postgresql://postgres@127.0.0.1/agentcore")}
