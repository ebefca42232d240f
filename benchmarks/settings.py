"""A Django project with agentcore and nothing else, as the documentation sets one up."""

from __future__ import annotations

import json
import os

from supportdemo.environment import database

SECRET_KEY = "only for measuring, never for anything that listens beyond this machine"
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1"]
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django_rq",
    "agentcore.streams",
    "agentcore",
    "benchmarks.app",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
ROOT_URLCONF = "agentcore.urls"
ASGI_APPLICATION = "benchmarks.asgi.application"
DATABASES = {"default": database(os.environ["DATABASE_URL"])}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
REDIS_URL = os.environ["REDIS_URL"]
RQ_QUEUES = {"agentcore": {"URL": REDIS_URL, "SERIALIZER": "rq.serializers.JSONSerializer"}}
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [{"address": REDIS_URL, "socket_timeout": None}]},
    }
}
USE_TZ = True
# What one measurement needs otherwise than the defaults, which hold for all the rest.
AGENTCORE = json.loads(os.environ.get("BENCH_AGENTCORE", "{}"))
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stderr": {"class": "logging.StreamHandler"}},
    "loggers": {name: {"handlers": ["stderr"], "level": "WARNING"} for name in ("agentcore", "django", "rq")},
}
