"""What tests of the hub share: its layers, and whether Redis knows of a watcher."""

from __future__ import annotations

from uuid import UUID

import redis

from agentcore.streams.hub import Hub
from agentcore.streams.wire import GROUP

HERE = "tests.integration.live"
SELDOM = 60.0
"""A poll that never comes: what arrives was brought by a hint."""


PUBSUB = "channels_redis.pubsub.RedisPubSubChannelLayer"
CORE = "channels_redis.core.RedisChannelLayer"


async def watch_for_ever(stream_id: UUID) -> None:
    """Watch a stream until cancelled."""
    async with Hub.current().watch(stream_id) as subscription:
        while True:
            await subscription.next()


def listens(url: str, backend: str) -> bool:
    """Whether Redis knows of somebody who hears hints."""
    with redis.Redis.from_url(url) as client:
        if backend == CORE:
            return bool(client.zcard(f"asgi:group:{GROUP}"))
        return bool(dict(client.pubsub_numsub(f"asgi__group__{GROUP}")).popitem()[1])
