"""The demo's settings, all of them; what may differ between machines comes from the environment."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

from .environment import checkout_secret, database, flag, private_directory

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = private_directory(Path(os.environ.get("DEMO_DATA_DIR") or BASE_DIR / ".demo"))

SECRET_KEY = os.environ.get("DEMO_SECRET_KEY") or checkout_secret(DATA_DIR / "secret-key")
DEBUG = flag("DEBUG", default=True)
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]

INSTALLED_APPS = [
    "daphne",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_rq",
    "agentcore.streams",
    "agentcore",
    "supportdemo.accounts",
    "supportdemo.files",
    "supportdemo.knowledge",
    "supportdemo.cases",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "agentcore.web.middleware.OutageMiddleware",
    "supportdemo.middleware.content_security_policy",
    "supportdemo.middleware.problems_for_scripts",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
ROOT_URLCONF = "supportdemo.urls"
ASGI_APPLICATION = "supportdemo.asgi.application"

# --- stores -----------------------------------------------------------------------------------------------------
DATABASES = {
    "default": database(os.environ.get("DATABASE_URL") or f"sqlite:///{quote(str(DATA_DIR / 'demo.sqlite3'))}")
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
REDIS_URL = os.environ.get("REDIS_URL") or "redis://127.0.0.1:6379/0"
RQ_QUEUES = {"agentcore": {"URL": REDIS_URL, "SERIALIZER": "rq.serializers.JSONSerializer"}}
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        # Without this the client's own 5 s timeout ends every idle subscription.
        "CONFIG": {"hosts": [{"address": REDIS_URL, "socket_timeout": None}]},
    }
}
# Ctrl-C ends the worker after a few seconds whether or not its runs have reached the end of a step.
AGENTCORE = {"DRAIN_SECONDS": 3}
# Attachments lie outside every static root; nothing serves this directory but the authorised view.
MEDIA_ROOT = DATA_DIR / "media"

# --- pages ------------------------------------------------------------------------------------------------------
STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
LOGIN_URL = "accounts:login"
LOGIN_REDIRECT_URL = "cases:list"
LOGOUT_REDIRECT_URL = "accounts:login"
LANGUAGE_CODE = "en"
USE_TZ = True
TIME_ZONE = "UTC"

# --- security ---------------------------------------------------------------------------------------------------
# The addresses of proxies, with commas between them, whose X-Forwarded-For says where a request comes from.
TRUSTED_PROXIES = [item.strip() for item in os.environ.get("DEMO_TRUSTED_PROXIES", "").split(",") if item.strip()]
AUTH_PASSWORD_VALIDATORS: list[dict[str, str]] = []
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"
# The demo listens on this machine over plain HTTP; behind TLS, set DEMO_HTTPS=1.
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = flag("DEMO_HTTPS", default=False)
# Names of their own: cookies are shared by all ports of a host, and so by every Django on this machine.
SESSION_COOKIE_NAME = "supportdemo_session"
CSRF_COOKIE_NAME = "supportdemo_csrf"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024
DATA_UPLOAD_MAX_NUMBER_FIELDS = 200
DATA_UPLOAD_MAX_NUMBER_FILES = 5

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "loggers": {
        name: {"handlers": ["stderr"], "level": os.environ.get("LOG_LEVEL") or "WARNING", "propagate": False}
        for name in ("agentcore", "supportdemo", "django")
    },
}
