"""The demo's settings with an app of test agents added and every wait made short."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

# Given by the test run's plugin, to itself and to every process it starts.
DIRECTORY = Path(os.environ.get("AGENTCORE_TEST_DIR") or tempfile.gettempdir())
os.environ.setdefault("DEMO_DATA_DIR", str(DIRECTORY / "demo"))
os.environ.setdefault("DEMO_MODEL", "offline")  # whatever keys whoever runs the tests has
os.environ.setdefault("DEMO_SECRET_KEY", "only for tests, never for anything that listens beyond this machine")

from supportdemo.settings import *  # noqa: E402, F403
from supportdemo.settings import INSTALLED_APPS as DEMO_APPS  # noqa: E402

# Set by a test for a web process of its own.
DEBUG = bool(os.environ.get("AGENTCORE_TEST_DEBUG"))
ALLOWED_HOSTS = ["*"]
# Without daphne's app, which is there for `runserver` only: to import it is a third of what starting a process costs.
INSTALLED_APPS = [*(app for app in DEMO_APPS if app != "daphne"), "tests.testapp"]
ROOT_URLCONF = "tests.urls"
ASGI_APPLICATION = "tests.asgi.application"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

# Short, so that a test of take-over or of a lost hint takes seconds.
AGENTCORE = {"LEASE_SECONDS": 2, "SWEEP_SECONDS": 0.5, "HINT_GRACE_SECONDS": 1, "POLL_SECONDS": 1, "FAILPOINTS": True}
# A test may set more for one process that it starts.
AGENTCORE |= json.loads(os.environ.get("AGENTCORE_TEST_SETTINGS") or "{}")

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(process)d %(levelname)s %(name)s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "loggers": {name: {"handlers": ["stderr"], "level": "INFO"} for name in ("agentcore", "supportdemo")},
}
