"""Puts "look at run X" on the RQ queue: a hint, which may be lost, doubled or late."""

from __future__ import annotations

import logging
from typing import Any
from uuid import UUID

import django_rq
import redis
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.dispatch import receiver
from redis.backoff import NoBackoff
from redis.retry import Retry
from rq import Queue
from rq.serializers import JSONSerializer

from ..conf import get_settings
from ..values.ids import uuid7

logger = logging.getLogger("agentcore.dispatch")

JOB = "agentcore.jobs.single.execute_run"
# A request must not wait for a dead Redis: the sweep sends the hint again.
PATIENCE = 0.5
MOST_NAMED = 10  # in one line of the log

_clients: dict[str, redis.Redis] = {}


def enqueue(*run_ids: UUID) -> bool:
    """Send hints in one round trip; returns whether they went out, and never raises for a Redis that is away.

    Nor for one that is misconfigured. A job carries only the run's id. Its result is never read, so none is kept.
    """
    settings = get_settings()
    try:
        client = _connection(settings.queue)
        queue = Queue(settings.queue, connection=client, serializer=JSONSerializer)
        # Of its own, RQ would send what it has to say in two transactions.
        with client.pipeline() as pipeline:
            for run_id in run_ids:
                queue.enqueue_call(
                    JOB,
                    args=(str(run_id),),
                    timeout=settings.job_timeout,
                    result_ttl=0,
                    failure_ttl=3600,
                    job_id=f"run-{run_id.hex}-{uuid7().hex[-12:]}",
                    description=f"look at run {run_id}",
                    pipeline=pipeline,
                )
            pipeline.execute()
    except (redis.RedisError, OSError, KeyError, ValueError, ImproperlyConfigured) as error:
        logger.warning(
            "hint not sent: %s; the sweep will send it again",
            type(error).__name__,
            extra={"run_id": ", ".join(map(str, run_ids[:MOST_NAMED])), "hints": len(run_ids), "action": "hint_lost"},
        )
        return False
    return True


def _connection(queue: str) -> redis.Redis:
    """Return the process's client of the queue's Redis."""
    client = _clients.get(queue)
    # Where two threads make one each, one is kept; the other has not connected yet.
    return client if client is not None else _clients.setdefault(queue, _impatient(queue))


def _impatient(queue: str) -> redis.Redis:
    """Return a client that gives up quickly, whatever the project's own options are."""
    pool = django_rq.get_connection(queue).connection_pool
    options: dict[str, Any] = {
        **pool.connection_kwargs,
        "socket_timeout": PATIENCE,
        "socket_connect_timeout": PATIENCE,
        "retry": Retry(NoBackoff(), 0),
    }
    return redis.Redis(connection_pool=redis.ConnectionPool(connection_class=pool.connection_class, **options))


def forget() -> None:
    """Close the clients, and make new ones from the settings when they are needed."""
    while _clients:
        _clients.popitem()[1].connection_pool.disconnect()


@receiver(setting_changed, dispatch_uid="agentcore.services.dispatch")
def _settings_changed(*, setting: str, **kwargs: Any) -> None:
    if setting == "RQ_QUEUES":
        forget()
