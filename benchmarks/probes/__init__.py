"""The measurements of agentcore itself; each module is one process of a benchmark."""

from __future__ import annotations

import os

import django
from django.apps import apps

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.settings")
if not apps.ready:
    django.setup()
