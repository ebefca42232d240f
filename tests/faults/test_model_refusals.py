"""A provider that refuses for now is asked again later, and no worker is held by a long wait."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from django.conf import LazySettings

from agentcore.engine.runtime import Runtime
from agentcore.engine.steps.model import retry_in
from agentcore.exceptions import ModelError
from agentcore.models import Run, Step
from agentcore.services import execution
from agentcore.services.sweep import sweep
from agentcore.testing import HttpModel, check_invariants, fake_clock
from agentcore.testing.faults.http_model import refuses, says
from tests.faults.providers import thinking
from tests.integration.room import drive_to_the_end, log

pytestmark = pytest.mark.django_db

FOR_NOW = {429: "rate_limited", 500: "provider_error", 502: "provider_error", 503: "overloaded", 529: "overloaded"}
FOR_GOOD = {400: "invalid_request", 401: "auth", 402: "credits", 403: "auth"}


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    assert check_invariants() == []


def seconds_until(run: Run) -> float:
    """How long a released run still waits, from the event that said so."""
    released = next(event for event in log(run) if event["type"] == "run.released")
    return (datetime.fromisoformat(released["available_at"]) - datetime.fromisoformat(released["ts"])).total_seconds()


@pytest.mark.covers("fault:M5")
@pytest.mark.parametrize(("status", "code"), FOR_NOW.items())
def test_a_provider_that_refuses_once_is_asked_again_soon(status: int, code: str) -> None:
    begun = time.monotonic()
    with HttpModel(refuses(status), says("Done.")) as model:
        run = thinking(model).play()
    assert run.status == "succeeded" and len(model.requests) == 2
    assert time.monotonic() - begun >= 0.3  # not in the same breath
    failed, finished = Step.objects.filter(run=run).order_by("started_at")
    assert (failed.status, failed.error_code, finished.status) == ("failed", code, "finished")
    assert failed.number == finished.number and Run.objects.get(pk=run.pk).attempt == 1


@pytest.mark.covers("fault:M5")
def test_a_short_wait_that_the_provider_names_is_kept_in_the_worker() -> None:
    begun = time.monotonic()
    with HttpModel(refuses(429, headers={"Retry-After": "1"}), says("Done.")) as model:
        run = thinking(model).play()
    assert time.monotonic() - begun >= 1
    assert run.status == "succeeded" and Run.objects.get(pk=run.pk).attempt == 1


@pytest.mark.covers("fault:M5")
@pytest.mark.parametrize(("named", "kept"), [("100", 100), ("600", 600)])
def test_a_long_wait_gives_the_run_back_until_then(named: str, kept: float) -> None:
    with HttpModel(refuses(429, headers={"Retry-After": named}), says("Done.")) as model:
        room = thinking(model)
        run = drive_once(room.send())
        assert (run.status, run.lease_expires_at) == ("pending", None)
        assert seconds_until(run) == kept
        assert drive_once(run).status == "pending" and len(model.requests) == 1
        assert sweep().hinted == 0  # it has an owner: its time
        with fake_clock(timedelta(seconds=kept + 1)):
            assert sweep().hinted == 1
            assert drive_to_the_end(run).status == "succeeded"
    assert len(model.requests) == 2
    run.refresh_from_db()
    assert (run.attempt, run.lost_leases) == (2, 0)  # a wait is no failure of a worker


def drive_once(run: Run) -> Run:
    execution.drive(run.pk, Runtime("worker", inline=True))
    run.refresh_from_db()
    return run


@pytest.mark.covers("fault:M5")
def test_retries_are_counted_across_the_workers_that_wait() -> None:
    """The limit stands in the rows: whoever takes the run next goes on counting."""
    with HttpModel(script=lambda seen: refuses(429, headers={"Retry-After": "60"})) as model:
        run = drive_once(thinking(model).send())
        with fake_clock() as clock:
            while run.status == "pending":
                clock.advance(61)
                drive_once(run)
    assert (run.status, run.error_code, len(model.requests)) == ("failed", "rate_limited", 4)
    assert run.attempt == 4


@pytest.mark.covers("fault:M5")
@pytest.mark.parametrize(("status", "code"), FOR_GOOD.items())
def test_a_refusal_that_stays_is_not_asked_again(status: int, code: str) -> None:
    with HttpModel(refuses(status, "No.")) as model:
        run = thinking(model).play()
    assert (run.status, run.error_code, len(model.requests)) == ("failed", code, 1)
    assert "No." in run.error_detail and "No." not in run.error_message


@pytest.mark.covers("fault:M5")
def test_a_quota_that_is_used_up_is_no_passing_refusal() -> None:
    with HttpModel(refuses(429, "No.", "insufficient_quota")) as model:
        run = thinking(model).play()
    assert (run.status, run.error_code, len(model.requests)) == ("failed", "credits", 1)


@pytest.mark.covers("fault:M5")
def test_without_a_named_time_each_wait_is_longer_and_none_is_the_same(settings: LazySettings) -> None:
    error = ModelError("No.", code="overloaded")
    waits = [[retry_in(error, failed) for _ in range(20)] for failed in range(3)]
    delays = [[wait for wait in same if wait is not None] for same in waits]
    assert all(len(set(same)) > 1 for same in delays)  # jitter: a thousand runs do not come back together
    assert max(delays[0]) < min(delays[1]) < max(delays[1]) < min(delays[2])
    assert retry_in(error, settings.AGENTCORE.get("MODEL_RETRIES", 3)) is None
