"""Settings that the system checks complain of, each with the id of the check, and settings that only look like it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any
from unittest import mock

from django.conf import LazySettings
from django.core import checks
from django.db.models import Model

from agentcore import Agent, conf
from agentcore.access import AccessPolicy
from agentcore.declaration import registry
from agentcore.providers import named

QUEUE = {"URL": "redis://localhost/0", "SERIALIZER": "rq.serializers.JSONSerializer"}
REDIS_LAYER = "channels_redis.pubsub.RedisPubSubChannelLayer"
SQLITE = {
    "ENGINE": "django.db.backends.sqlite3",
    "OPTIONS": {
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
    },
}
POSTGRES = {"ENGINE": "django.db.backends.postgresql", "OPTIONS": {"options": "-c lock_timeout=5000"}}
AGENT = "the models of an agent"
WRONG: dict[type, list[Any]] = {str: [None, [], 1, ""], bool: [None, [], "yes", 1, 0]}


class Unfinished(AccessPolicy):
    """Answers none of the questions."""


class Replica:
    """Reads everything from a replica."""

    def db_for_read(self, model: type[Model], **hints: Any) -> str:
        return "other"


class OtherApps:
    """Keeps all apps but agentcore's in another database."""

    ours: tuple[str, ...] = ("agentcore", "agentcore_streams")

    def db_for_read(self, model: type[Model], **hints: Any) -> str | None:
        return None if model._meta.app_label in self.ours else "other"

    db_for_write = db_for_read


class AndTheLogs(OtherApps):
    """Keeps the logs there too."""

    ours = ("agentcore",)


def hosts(*listed: Any) -> dict[str, Any]:
    return {"CHANNEL_LAYERS": {"default": {"BACKEND": REDIS_LAYER, "CONFIG": {"hosts": list(listed)}}}}


def sqlite(**options: Any) -> dict[str, Any]:
    return {"DATABASES": {"default": {**SQLITE, "OPTIONS": {**SQLITE["OPTIONS"], **options}}}}  # type: ignore[dict-item]


def without(*apps: str) -> list[str]:
    from django.conf import settings

    return [app for app in settings.INSTALLED_APPS if app not in apps]


GOOD: dict[str, Any] = {
    "AGENTCORE": {},
    "RQ_QUEUES": {"agentcore": QUEUE},
    "RQ": {},
    **hosts({"address": "redis://localhost/0", "socket_timeout": None}),
    "DATABASES": {"default": SQLITE, "other": POSTGRES},
    "DEBUG": False,
    "ASGI_APPLICATION": "tests.asgi.application",
    "DATABASE_ROUTERS": [],
}

# Per id: settings it must complain of, each a little off the good ones.
BAD: dict[str, list[dict[str, Any]]] = {
    "agentcore.E001": [
        {"AGENTCORE": {"LEASE_SECOND": 1}},
        {"AGENTCORE": {"lease_seconds": 1}},
        {"AGENTCORE": {5: 1}},
        {"AGENTCORE": None},
        {"AGENTCORE": [("QUEUE", "x")]},
    ],
    "agentcore.E002": [
        *(
            {"AGENTCORE": {key: bad}}
            for key, kind in conf.KEYS.items()
            for bad in WRONG.get(kind, [None, [], "1", -1, True])
        ),
        {"AGENTCORE": {"LEASE_SECONDS": 0}},
        {"AGENTCORE": {"POISON_AFTER": 1.5}},
        {"AGENTCORE": {"QUEUE": ""}},
    ],
    "agentcore.E003": [
        {"AGENTCORE": {"ACCESS_POLICY": "no.such.Policy"}},
        {"AGENTCORE": {"ACCESS_POLICY": "nodots"}},
        {"AGENTCORE": {"ACCESS_POLICY": "agentcore.values.system.System"}},
        {"AGENTCORE": {"ACCESS_POLICY": f"{__name__}.Unfinished"}},
        {"AGENTCORE": {"ACCESS_POLICY": f"{__name__}.NoSuchName"}},
    ],
    "agentcore.E004": [{"INSTALLED_APPS": ("agentcore.streams",)}],
    "agentcore.E005": [{"AGENTCORE": {"FAILPOINTS": True}}],
    "agentcore.E006": [{"DATABASE_ROUTERS": [AndTheLogs()]}, {"DATABASE_ROUTERS": [f"{__name__}.AndTheLogs"]}],
    "agentcore.E007": [{"DATABASE_ROUTERS": [Replica()]}],
    "agentcore.E008": [
        {"ASGI_APPLICATION": "no.such.module"},
        {"ASGI_APPLICATION": "nodots"},
        {"ASGI_APPLICATION": "tests.asgi.no_such_name"},
        {"ASGI_APPLICATION": f"{__name__}.GOOD"},
        {"ASGI_APPLICATION": 5},
    ],
    "agentcore.E009": [
        {"AGENTCORE": {"STILL_ALLOWED": "no.such.function"}},
        {"AGENTCORE": {"STILL_ALLOWED": "agentcore.conf.KEYS"}},
    ],
    "agentcore.E010": [{"USE_TZ": False}],
    "agentcore.W001": [{"RQ_QUEUES": {}}, {"RQ_QUEUES": {"default": QUEUE}}, {"AGENTCORE": {"QUEUE": "other"}}],
    "agentcore.W002": [
        {"RQ_QUEUES": {"agentcore": {"URL": "redis://localhost/0"}}},
        {"RQ_QUEUES": {"agentcore": {**QUEUE, "SERIALIZER": "rq.serializers.DefaultSerializer"}}},
    ],
    "agentcore.W003": [{"RQ": {"JOB_CLASS": "agentcore.jobs.job.AgentcoreJob"}}],
    "agentcore.W004": [{"CHANNEL_LAYERS": {}}, {"CHANNEL_LAYERS": {"other": {"BACKEND": REDIS_LAYER}}}],
    "agentcore.W005": [{"CHANNEL_LAYERS": {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}}],
    "agentcore.W006": [
        hosts("redis://localhost/0"),
        hosts(("localhost", 6379)),
        hosts({"address": "redis://localhost/0"}),
        hosts({"address": "redis://localhost/0", "socket_timeout": 5}),
        hosts({"address": "a", "socket_timeout": None}, {"address": "b"}),
        {"CHANNEL_LAYERS": {"default": {"BACKEND": REDIS_LAYER}}},
    ],
    "agentcore.W007": [
        sqlite(transaction_mode="DEFERRED"),
        {
            "DATABASES": {
                "default": POSTGRES,
                "other": {**SQLITE, "OPTIONS": {"init_command": SQLITE["OPTIONS"]["init_command"]}},
            }
        },  # type: ignore[index]
    ],
    "agentcore.W008": [
        sqlite(init_command=""),
        sqlite(init_command="PRAGMA journal_mode=WAL"),
        sqlite(init_command="PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"),
    ],
    "agentcore.W009": [
        {"DATABASES": {"default": {**POSTGRES, "CONN_MAX_AGE": 60}}},
        {"DATABASES": {"default": {**POSTGRES, "CONN_MAX_AGE": None}}},
    ],
    "agentcore.W010": [{"AGENTCORE": {"JOB_TIMEOUT": 540}}, {"AGENTCORE": {"TOOL_TIMEOUT": 400}}],
    "agentcore.W011": [
        {"DATABASES": {"default": {"ENGINE": "django.db.backends.postgresql"}}},
        {"DATABASES": {"default": {**POSTGRES, "OPTIONS": {"options": "-c statement_timeout=5000"}}}},
    ],
    "agentcore.W012": [{AGENT: "openai:gpt-5"}, {AGENT: "groq:llama-4"}, {AGENT: ("vllm:llama-4", "nobody:gpt-5")}],
}
# What looks like it and is fine.
FINE: list[dict[str, Any]] = [
    {},
    {"AGENTCORE": {"LEASE_SECONDS": 1, "POLL_SECONDS": 0.5, "QUEUE": "agentcore"}},
    {"AGENTCORE": {"MODEL_RETRIES": 0, "OUTPUT_RETRIES": 0, "FAILPOINTS": False}},
    {"RQ_QUEUES": {"agentcore": {**QUEUE, "SERIALIZER": "json"}}},
    {"CHANNEL_LAYERS": {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}, "DEBUG": True},
    {"CHANNEL_LAYERS": {"default": {"BACKEND": "my.own.Layer"}}},
    sqlite(init_command="pragma JOURNAL_MODE = wal;pragma synchronous = full;", transaction_mode="immediate"),
    {"DATABASES": {"default": {**POSTGRES, "CONN_MAX_AGE": 60}}, "ASGI_APPLICATION": None},
    {"DATABASES": {"default": POSTGRES}},
    {"DATABASES": {}},
    {"DATABASE_ROUTERS": [OtherApps()]},
]  # fmt: skip


def found(settings: LazySettings, values: Mapping[str, Any]) -> list[checks.CheckMessage]:
    """What agentcore's checks say of the good settings with these values among them, and of an agent's models."""
    for name, value in {**GOOD, **values}.items():
        if name != AGENT:
            setattr(settings, name, without(*value) if name == "INSTALLED_APPS" else value)
    with registry.isolated(), mock.patch.dict(os.environ, {"OPENAI_BASE_URL": ""}):
        os.environ.pop("OPENAI_API_KEY", None)
        os.environ.pop("OPENAI_BASE_URL")
        named._made.clear()
        if AGENT in values:
            Agent(name="of_the_checks", model=values[AGENT])
        messages = checks.run_checks(tags=["agentcore"], include_deployment_checks=True)
    return [message for message in messages if str(message.id).startswith("agentcore.")]
