"""Which errors say that Redis is away, and an asyncio client for the Redis of a queue."""

from __future__ import annotations

from typing import Any

import redis
from django.core.exceptions import ImproperlyConfigured
from redis import asyncio as aredis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

# Not only broken connections: a Redis that is full, loading or a replica answers, but accepts no writes.
AWAY = (redis.RedisError, OSError)
TWINS: dict[type[Any], type[Any]] = {
    redis.Connection: aredis.Connection,
    redis.SSLConnection: aredis.SSLConnection,
    redis.UnixDomainSocketConnection: aredis.UnixDomainSocketConnection,
}
OPTIONS = ("host", "port", "path", "db", "username", "password", "credential_provider", "protocol", "socket_keepalive")


def twin(client: redis.Redis, *, patience: float) -> aredis.Redis:
    """Return an asyncio client with the same address and credentials, which gives up after `patience` seconds.

    It does not retry; its users decide when to. Raises `ImproperlyConfigured` for a connection to
    anything but a single server.
    """
    pool = client.connection_pool
    kind = TWINS.get(pool.connection_class)
    if kind is None:
        raise ImproperlyConfigured(
            f"agentcore_worker cannot use {pool.connection_class.__name__}; run rqworker with "
            "agentcore.jobs.worker.AgentcoreWorker on this Redis."
        )
    given = pool.connection_kwargs
    options = {name: given[name] for name in given if name in OPTIONS or name.startswith("ssl_")}
    return aredis.Redis.from_pool(
        aredis.ConnectionPool(
            connection_class=kind,
            socket_timeout=patience,
            socket_connect_timeout=patience,
            retry=Retry(NoBackoff(), 0),
            **options,
        )
    )
