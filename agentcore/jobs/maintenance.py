"""RQ's own upkeep of its registries, which every worker does now and then."""

from __future__ import annotations

import asyncio
import logging

from rq.worker import BaseWorker

from .bookkeeping import PAUSE_SECONDS
from .redis_client import AWAY

logger = logging.getLogger("agentcore.jobs")


async def maintain(worker: BaseWorker) -> None:
    """Have RQ clean its registries at its own interval, for ever."""
    while True:
        try:
            await asyncio.to_thread(worker.run_maintenance_tasks)
        except AWAY:
            await asyncio.sleep(PAUSE_SECONDS)
            continue
        except Exception:
            logger.exception("RQ's maintenance failed", extra={"action": "maintenance"})
        await asyncio.sleep(worker.maintenance_interval)
