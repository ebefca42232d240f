"""The RQ worker of agentcore: it lives through an absent Redis, and is back within seconds of it."""

from __future__ import annotations

import logging
import os
import signal
import time
from contextlib import suppress
from typing import Any

import redis
from django.db import connections
from redis.backoff import ConstantBackoff
from redis.client import Pipeline
from redis.retry import Retry
from rq.exceptions import StopRequested
from rq.executions import Execution
from rq.job import Job
from rq.queue import Queue
from rq.worker import Worker, WorkerStatus

from ..values.logextra import log_extra
from .job import only_ours
from .prefork import prepare
from .redis_client import AWAY
from .single import DRAIN

logger = logging.getLogger("agentcore.jobs")


class AgentcoreWorker(Worker):
    """An RQ worker that runs agentcore's jobs only, and waits for Redis instead of backing off or giving up.

    The sweep sends a hint that an outage swallowed again, within its interval of seconds; a
    worker that looked for Redis once a minute would make that a minute.
    """

    max_connection_wait_time = 2.0

    def __init__(self, queues: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(queues, *args, **only_ours(kwargs))
        if len(self.queues) != 1:
            raise ValueError("A worker of agentcore listens to one queue: from several, a job can be lost.")
        for queue in self.queues:
            # Upkeep of a queue reads jobs through the queue, not through the worker.
            queue.job_class, queue.serializer = self.job_class, self.serializer

    def work(self, *args: Any, **kwargs: Any) -> bool:
        """Work as RQ does; what every horse needs is made once, before RQ starts its thread for commands."""
        prepare()
        return super().work(*args, **kwargs)

    def _set_connection(self, connection: redis.Redis) -> redis.Redis:
        connection = super()._set_connection(connection)
        # The client's own patience doubles too, up to ten seconds; the loop above it is patient enough.
        connection.set_retry(Retry(ConstantBackoff(0.1), 1))
        return connection

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Run a job to its end; where Redis went away meanwhile, wait for it rather than quit.

        The run does not need Redis, and what RQ could not note down about the job is read by nobody.
        """
        try:
            super().execute_job(job, queue)
        except AWAY as error:
            logger.warning("Redis went away during a job: %s", error, extra=log_extra("redis_away"))
            self.executions.clear()
            self._wait_for_redis()

    def maintain_heartbeats(self, job: Job, execution: Execution) -> None:
        """Tell RQ that the job is alive; while Redis is away nobody can be told, and the job goes on."""
        try:
            super().maintain_heartbeats(job, execution)
        except AWAY as error:
            logger.warning("no heartbeat: %s", error, extra=log_extra("redis_away"))

    def _wait_for_redis(self) -> None:
        while not self._stop_requested:
            try:
                self.connection.ping()
            except AWAY:
                time.sleep(self.max_connection_wait_time)
            else:
                return

    def fork_work_horse(self, job: Job, queue: Queue) -> None:
        """Fork without an open database connection: closed by the horse, the parent's would be closed too."""
        connections.close_all()
        super().fork_work_horse(job, queue)

    def set_state(self, state: str, pipeline: Pipeline | None = None) -> None:
        """Note what the worker does; it does not begin to wait for a job once it was told to stop.

        RQ looks for such a request before it notes that it is idle: one that comes in between would be seen
        after the wait for the next job, which is of minutes.
        """
        super().set_state(state, pipeline)
        if state == WorkerStatus.IDLE and self._stop_requested:
            raise StopRequested

    def unsubscribe(self) -> None:
        """Stop listening for commands; the thread is told first, or it may wait for another one for a minute."""
        if self.pubsub_thread:
            self.pubsub_thread.stop()
        super().unsubscribe()  # type: ignore[no-untyped-call]

    def setup_work_horse_signals(self) -> None:
        """Have SIGTERM drain the run instead of killing the horse."""
        super().setup_work_horse_signals()  # type: ignore[no-untyped-call]
        DRAIN.install()

    def handle_warm_shutdown_request(self) -> None:
        """Pass a request to stop on to the horse: its run is given back at its next step boundary."""
        super().handle_warm_shutdown_request()  # type: ignore[no-untyped-call]
        if self.horse_pid:
            with suppress(ProcessLookupError):
                os.kill(self.horse_pid, signal.SIGTERM)
