"""The RQ job class that runs agentcore's own function and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self, cast
from uuid import UUID

from rq.exceptions import InvalidJobOperation
from rq.job import Job
from rq.queue import Queue
from rq.serializers import JSONSerializer

from ..conf import get_settings
from ..services.dispatch import JOB

ALLOWED_FUNCTIONS = frozenset({JOB})


class AgentcoreJob(Job):
    """Refuses any function that is not on the list, and everything else a job can make its worker do.

    A JSON payload still names a function by its dotted path, and rq imports what
    it names: without this, whoever can write to Redis can run anything.
    """

    @property
    def func(self) -> Callable[..., Any]:
        """The function to run; raises `InvalidJobOperation` for one that is not allowed."""
        self._refuse_others()
        function: Callable[..., Any] = super().func
        return function

    @property
    def run_id(self) -> UUID:
        """The run to look at; raises `InvalidJobOperation` for a job that is not agentcore's."""
        self._refuse_others()
        try:
            (value,) = self.args
            return UUID(value)
        except (AttributeError, TypeError, ValueError) as error:
            raise InvalidJobOperation(f"The job {self.id!r} names no run; it is refused.") from error

    @classmethod
    def unread(cls, job_id: str, run_id: UUID, queue: Queue) -> Self:
        """Return the job that looks at a run, as `dispatch` has sent it; whether Redis still has it is not asked."""
        job: Any = cls.create(
            JOB,
            args=(str(run_id),),
            id=job_id,
            timeout=get_settings().job_timeout,
            origin=queue.name,
            connection=queue.connection,
            serializer=queue.serializer,
        )
        return cast(Self, job)

    def _refuse_others(self) -> None:
        if self.func_name not in ALLOWED_FUNCTIONS or self.instance is not None:
            raise InvalidJobOperation(f"The function {self.func_name!r} is not agentcore's; the job is refused.")

    @property
    def success_callback(self) -> None:
        """None: a callback is one more function that a job names."""
        return None

    @property
    def failure_callback(self) -> None:
        """None, like `success_callback`."""
        return None

    @property
    def stopped_callback(self) -> None:
        """None, like `success_callback`."""
        return None

    def send_webhooks(self, *args: Any, **kwargs: Any) -> None:
        """Send none: the worker calls no address that a job names."""


def only_ours(options: dict[str, Any]) -> dict[str, Any]:
    """Return a worker's options with JSON and a job class of ours, whatever its command line says.

    The command line always gives both, and its defaults are for a worker that runs anything.
    """
    given = options.get("job_class")
    ours = isinstance(given, type) and issubclass(given, AgentcoreJob)
    return {**options, "serializer": JSONSerializer, "job_class": given if ours else AgentcoreJob}
