"""Jobs are hints: one function, one primitive argument, sent after the commit, harmless with nothing to do."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from asgiref.sync import async_to_sync
from django.conf import LazySettings
from django.contrib.auth.models import AbstractUser
from django.db import transaction
from django.utils import timezone
from redis import Redis
from rq import Callback, Queue
from rq.exceptions import InvalidJobOperation
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.webhook import Webhook

from agentcore.jobs.job import AgentcoreJob
from agentcore.jobs.single import execute_run
from agentcore.models import Run
from agentcore.services import dispatch
from agentcore.states import RunStatus
from agentcore.streams import log
from tests.stack import Stack, wait_for
from tests.testapp import agents
from tests.tools.sources import called_name, read_package

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def redis(settings: LazySettings) -> Iterator[Redis]:
    """The run's Redis, emptied."""
    with Redis.from_url(settings.REDIS_URL) as client:
        client.flushall()
        yield client


@pytest.fixture
def queue(redis: Redis) -> Queue:
    """agentcore's queue, read as its worker reads it."""
    return Queue("agentcore", connection=redis, serializer=JSONSerializer, job_class=AgentcoreJob)


# --- what is sent -----------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.covers("dj:TX-3", "dj:RQ-2", "dj:RQ-4")
def test_a_job_has_our_id_names_our_function_and_carries_a_runs_id_only(
    queue: Queue, thread: Any, settings: LazySettings
) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "JOB_TIMEOUT": 321}
    with transaction.atomic():
        run = agents.echo.runs.send(thread, "secret words", user=thread.owner)
        assert Run.objects.get(pk=run.pk).dispatched_at is not None  # noted before the commit …
        assert queue.job_ids == []  # … and sent after it
    (job,) = queue.jobs
    assert re.fullmatch(rf"run-{run.pk.hex}-[0-9a-f]{{12}}", job.id) and re.fullmatch(r"[A-Za-z0-9_-]+", job.id)
    assert (job.func_name, job.args, job.kwargs, job.timeout) == (dispatch.JOB, [str(run.pk)], {}, 321)
    assert json.loads(job.data) == [dispatch.JOB, None, [str(run.pk)], {}]
    assert "secret" not in job.description


@pytest.mark.django_db(transaction=True)
@pytest.mark.covers("dj:TX-3")
def test_two_hints_for_a_run_are_two_jobs(queue: Queue) -> None:
    run_id = uuid4()
    assert dispatch.enqueue(run_id) and dispatch.enqueue(run_id)
    assert len(set(queue.job_ids)) == 2


def calls_in(package: str) -> Iterator[tuple[str, ast.Call]]:
    for module in read_package(ROOT, package).values():
        yield from ((module.name, node) for node in ast.walk(module.tree) if isinstance(node, ast.Call))


@pytest.mark.once
@pytest.mark.covers("dj:TX-4")
@pytest.mark.parametrize("package", ["agentcore", "supportdemo"])
def test_nothing_is_scheduled_in_redis(package: str) -> None:
    # They ignore the transaction they are called in; a delay is a column, and the sweep looks at it.
    scheduling = {"enqueue_in", "enqueue_at", "enqueue_many", "schedule_job", "get_scheduler"}
    assert [name for name, call in calls_in(package) if called_name(call) in scheduling] == []


@pytest.mark.once
@pytest.mark.covers("dj:TX-5")
def test_nothing_is_sent_from_a_coroutine_nor_past_the_one_door() -> None:
    senders = {"enqueue", "enqueue_call", "enqueue_job", "hint", "hint_next", "on_commit", "atomic"}
    inside, doors = [], set()
    for module in read_package(ROOT, "agentcore").values():
        doors |= {
            module.name
            for node in ast.walk(module.tree)
            if isinstance(node, ast.Call) and called_name(node) == "enqueue_call"
        }
        for function in ast.walk(module.tree):
            if isinstance(function, ast.AsyncFunctionDef):
                nodes = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
                inside += [f"{module.name}:{node.lineno}" for node in nodes if called_name(node) in senders]
    assert inside == [] and doors == {"agentcore.services.dispatch"}


@pytest.mark.django_db(transaction=True)
@pytest.mark.covers("dj:TX-5")
def test_an_async_send_inside_a_transaction_waits_for_its_commit(queue: Queue, thread: Any) -> None:
    send = async_to_sync(agents.echo.runs.asend)
    with transaction.atomic():
        send(thread, "Hi", user=thread.owner)
        assert queue.job_ids == []
    assert len(queue.job_ids) == 1
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        send(thread, "Hi again", user=thread.owner)
        raise ZeroDivisionError
    assert len(queue.job_ids) == 1 and Run.objects.count() == 1


# --- what a job does ----------------------------------------------------------------------------------------------


def missing(run: Run) -> UUID:
    return uuid4()


def put(**values: Any) -> Callable[[Run], UUID]:
    def apply(run: Run) -> UUID:
        Run.objects.filter(pk=run.pk).update(**values)
        return run.pk

    return apply


NOW = timezone.now()
LEASE = NOW + timedelta(hours=1)


@pytest.mark.django_db(transaction=True)
@pytest.mark.covers("dj:TX-7")
@pytest.mark.parametrize(
    "arrange",
    [
        pytest.param(missing, id="there is no such row"),
        *(
            pytest.param(put(status=status, finished_at=NOW), id=f"it has {status}")
            for status in RunStatus
            if status.terminal
        ),
        pytest.param(put(status="running", attempt=1, worker="other", lease_expires_at=LEASE), id="another drives it"),
        pytest.param(put(status="waiting"), id="it waits"),
        pytest.param(put(available_at=LEASE), id="it is not due"),
    ],
)
def test_a_job_with_nothing_to_do_does_nothing(thread: Any, arrange: Callable[[Run], UUID]) -> None:
    run = agents.echo.runs.send(thread, "Hi", user=thread.owner)
    run_id = arrange(run)
    before = Run.objects.filter(pk=run.pk).values().get()
    logged = log.read(run.stream_id), log.read(thread.stream_id)
    assert execute_run(str(run_id)) == "nothing"
    assert Run.objects.filter(pk=run.pk).values().get() == before
    assert (log.read(run.stream_id), log.read(thread.stream_id)) == logged


@pytest.mark.django_db(transaction=True)
@pytest.mark.covers("dj:TX-7")
def test_a_job_behind_another_run_of_its_thread_does_nothing_and_the_same_job_twice_runs_it_once(thread: Any) -> None:
    first = agents.echo.runs.send(thread, "1", user=thread.owner)
    second = agents.echo.runs.send(thread, "2", user=thread.owner)
    assert execute_run(str(second.pk)) == "nothing"
    assert [execute_run(str(first.pk)) for _ in range(2)] == ["ended", "nothing"]
    assert execute_run(str(second.pk)) == "ended"
    assert {run.attempt for run in Run.objects.all()} == {1}


# --- what a job may not do ------------------------------------------------------------------------------------------


def forge(queue: Queue, function: str, *args: Any, **options: Any) -> Job:
    """Put into Redis what somebody with access to it would."""
    job = Job.create(function, args=args, connection=queue.connection, serializer=JSONSerializer, **options)
    queue.enqueue_job(job)
    return job


FORGED = [
    "os.system",
    "subprocess.check_call",
    "builtins.exec",
    "agentcore.jobs.single.hints.flush",
    "tests.testapp.world.append",
]


@pytest.mark.covers("threat:T26")
@pytest.mark.parametrize("function", FORGED)
def test_a_function_that_is_not_ours_is_refused(queue: Queue, function: str, tmp_path: Path) -> None:
    forged = forge(queue, function, f"touch {tmp_path}/taken")
    job = AgentcoreJob.fetch(forged.id, connection=queue.connection, serializer=JSONSerializer)
    with pytest.raises(InvalidJobOperation, match="is not agentcore's"):
        job.perform()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.covers("threat:T26")
def test_a_job_names_no_callback_and_no_address_that_the_worker_would_call(queue: Queue) -> None:
    hook = Webhook("http://127.0.0.1:9/stolen", "finished")
    abort = Callback("os.abort")
    forged = forge(queue, dispatch.JOB, str(uuid4()), on_success=abort, on_failure=abort, webhooks=[hook])
    forged._stopped_callback_name = "os.abort"
    forged.save()
    plain = Job.fetch(forged.id, connection=queue.connection, serializer=JSONSerializer)
    assert plain.success_callback is not None and plain.webhooks  # a stock job would
    job = AgentcoreJob.fetch(forged.id, connection=queue.connection, serializer=JSONSerializer)
    assert (job.success_callback, job.failure_callback, job.stopped_callback) == (None, None, None)
    job.webhooks = [_Explodes()]  # type: ignore[list-item]
    job.send_webhooks("finished")


class _Explodes:
    job_status = "finished"
    url = ""

    def send(self, *args: Any, **kwargs: Any) -> None:
        raise AssertionError("a webhook was sent")


@pytest.mark.covers("threat:T26", "dj:RQ-1")
def test_a_real_worker_refuses_a_forged_job_and_goes_on(
    stack: Stack, queue: Queue, user: AbstractUser, thread: Any, tmp_path: Path
) -> None:
    taken = tmp_path / "taken"
    forged = forge(queue, "os.system", f"touch {taken}")
    run = agents.echo.runs.send(thread, "Hi", user=user)
    stack.worker()
    wait_for(lambda: Run.objects.get(pk=run.pk).status == RunStatus.SUCCEEDED, 40, "the run behind the forged job")
    assert not taken.exists()
    assert forged.get_status(refresh=True) == "failed"


@pytest.mark.once
def test_the_project_keeps_its_own_job_class(settings: LazySettings) -> None:
    assert "JOB_CLASS" not in getattr(settings, "RQ", {})


HANDS_ON = {"agentcore.models.message"}  # the lock that an application asks a queryset of messages for


@pytest.mark.once
@pytest.mark.covers("dj:DB-4")
@pytest.mark.parametrize("package", ["agentcore", "supportdemo"])
def test_nothing_relies_on_a_row_lock_that_sqlite_does_not_have(package: str) -> None:
    locks = [name for name, call in calls_in(package) if called_name(call) == "select_for_update"]
    said = [name for name, module in read_package(ROOT, package).items() if _says(module.tree, "FOR UPDATE")]
    assert set(locks) <= HANDS_ON and said == []
    assert {path.stem for path in (ROOT / "tests" / "settings").glob("*.py")} >= {"sqlite", "postgres"}


def _says(tree: ast.Module, words: str) -> bool:
    """Whether a string that is no docstring holds the words."""
    docs = {ast.get_docstring(node, clean=False) for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)}  # fmt: skip
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return any(words in text.upper() for text in texts if text not in docs)
