"""The least a type checker needs to know the models: the shipped apps and what they stand on."""

from __future__ import annotations

SECRET_KEY = "only for the type checker"
USE_TZ = True
ROOT_URLCONF = "tests.urls"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django_rq",
    "agentcore.streams",
    "agentcore",
]
