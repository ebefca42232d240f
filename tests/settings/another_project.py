"""Another project that uses agentcore: its own user model, key type and language, and no setting of ours."""

from __future__ import annotations

import os

from supportdemo.environment import database

SECRET_KEY = "only for tests"
ROOT_URLCONF = "agentcore.urls"
DATABASES = {"default": database(os.environ.get("DATABASE_URL") or "sqlite:///:memory:")}
AUTH_USER_MODEL = "customuser.User"
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
LANGUAGE_CODE = "de"
USE_I18N = True
USE_TZ = True
TIME_ZONE = "Asia/Kolkata"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "agentcore.streams",
    "agentcore",
    "tests.customuser",
]
