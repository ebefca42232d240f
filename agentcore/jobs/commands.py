"""RQ's commands to a worker that drives many jobs: they come over Redis, from `rq` and the admin pages."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any, Protocol

from redis import asyncio as aredis

from ..values.logextra import log_extra
from .redis_client import AWAY

logger = logging.getLogger("agentcore.jobs")

PAUSE_SECONDS = 1.0
WAIT_SECONDS = 10.0


class Commanded(Protocol):
    """What a worker can be told."""

    @property
    def pubsub_channel_name(self) -> str: ...
    def shut_down(self) -> None: ...
    def stop_job(self, job_id: str) -> None: ...
    def stop_all_jobs(self) -> None: ...


async def obey(worker: Commanded, client: aredis.Redis) -> None:
    """Listen for commands, for ever; where Redis goes away, listen again when it is back."""
    while True:
        try:
            async with client.pubsub(ignore_subscribe_messages=True) as channel:
                await channel.subscribe(worker.pubsub_channel_name)
                while True:
                    message = await channel.get_message(timeout=WAIT_SECONDS)
                    if message is not None:
                        _carry_out(worker, message["data"])
        except AWAY:
            await asyncio.sleep(PAUSE_SECONDS)


def _carry_out(worker: Commanded, data: bytes) -> None:
    try:
        payload: dict[str, Any] = json.loads(data)
        command = payload["command"]
    except (KeyError, TypeError, ValueError):
        logger.warning("a command that is none was ignored", extra=log_extra("command"))
        return
    logger.info("told to %s", command, extra=log_extra("command"))
    if command == "shutdown":
        worker.shut_down()
    elif command in ("stop-job", "stop-execution"):
        worker.stop_job(str(payload.get("job_id", "")))
    elif command == "kill-horse":
        worker.stop_all_jobs()
