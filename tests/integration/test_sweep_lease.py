"""Of many sweepers one sweeps; when it dies or leaves, another does within seconds."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.management import call_command
from django.db.models import F
from django.utils import timezone

from agentcore.models import Run, SweepLease
from agentcore.services import dispatch
from agentcore.services import sweep as service
from tests.integration.room import fresh, make, race

HOLDER = "host:1"


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The hints that went out."""
    hints: list[Any] = []

    def enqueue(run_id: Any) -> bool:
        hints.append(run_id)
        return True

    monkeypatch.setattr(dispatch, "enqueue", enqueue)
    return hints


def lapse() -> None:
    """Let the holder's lease run out."""
    SweepLease.objects.update(expires_at=timezone.now() - timedelta(seconds=1))


@pytest.mark.django_db
@pytest.mark.usefixtures("long_turn")
@pytest.mark.covers("fault:O9")
def test_one_sweeper_has_its_turn_until_it_stops_renewing_or_hands_over() -> None:
    assert service.sweep_with_lease(HOLDER) is not None
    assert service.sweep_with_lease("other:2") is None
    assert service.sweep_with_lease(HOLDER) is not None
    assert SweepLease.objects.held_by() == HOLDER
    lapse()
    assert SweepLease.objects.held_by() == ""
    assert service.sweep_with_lease("other:2") is not None
    assert service.sweep_with_lease(HOLDER) is None
    service.release_lease(HOLDER)  # it is not its to give
    assert service.sweep_with_lease(HOLDER) is None
    service.release_lease("other:2")
    assert service.sweep_with_lease(HOLDER) is not None


@pytest.mark.once
@pytest.mark.parametrize("lease, interval, seconds", [(15, 2, 6), (6, 2, 3), (2, 2, 3), (600, 30, 90)])
def test_a_sweepers_turn_is_over_before_a_run_of_the_same_machine_needs_the_sweep(
    settings: LazySettings, lease: float, interval: float, seconds: float
) -> None:
    settings.AGENTCORE = {"LEASE_SECONDS": lease, "SWEEP_SECONDS": interval}
    assert service.lease_seconds() == seconds


@pytest.mark.django_db(transaction=True)
@pytest.mark.covers("fault:O9")
def test_of_many_sweepers_that_come_at_once_one_gets_the_lease() -> None:
    for _ in range(5):
        SweepLease.objects.all().delete()
        takes = race(*(lambda name=f"host:{number}": SweepLease.objects.acquire(name, 60) for number in range(4)))
        assert sorted(takes) == [False, False, False, True], takes


@pytest.mark.django_db
def test_a_single_pass_sweeps_whoever_has_the_lease_and_says_so(capsys: pytest.CaptureFixture[str], sent: Any) -> None:
    call_command("agentcore_sweep")
    assert "sweeps every" not in capsys.readouterr().out
    assert SweepLease.objects.acquire(HOLDER, 60)
    run = make([]).send()
    Run.objects.filter(pk=run.pk).update(dispatched_at=None)
    call_command("agentcore_sweep")
    assert f"{HOLDER} sweeps every few seconds" in capsys.readouterr().out
    assert sent == [run.pk]


@pytest.mark.django_db
def test_the_next_pass_comes_when_a_lease_runs_out_if_that_is_sooner() -> None:
    run = make([]).send()
    assert service.seconds_until_next() == service.interval()
    Run.objects.filter(pk=run.pk).update(
        status="running", lease_expires_at=timezone.now() + timedelta(seconds=service.interval() / 2)
    )
    assert service.seconds_until_next() < service.interval() * 0.7
    Run.objects.filter(pk=run.pk).update(lease_expires_at=timezone.now() + timedelta(hours=1))
    assert service.seconds_until_next() == service.interval()
    Run.objects.filter(pk=run.pk).update(lease_expires_at=timezone.now())
    assert service.interval() / 8 <= service.seconds_until_next() <= service.interval()


# --- a lapsed lease is looked at at once ------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.covers("promise:P1", "fault:R10")
def test_a_hint_from_before_a_lease_ran_out_does_not_delay_the_one_after_it(sent: Any) -> None:
    run = make([]).send()
    now = timezone.now()
    # Hinted again and again in its pending days, claimed late, hinted once more as it ran; then its worker died.
    lost = {"status": "running", "attempt": 1, "lease_expires_at": now - timedelta(seconds=0.5)}
    Run.objects.filter(pk=run.pk).update(**lost, dispatched_at=now - timedelta(seconds=0.7), dispatch_count=6)
    assert service.sweep().hinted == 1 and sent == [run.pk]
    assert fresh(run).dispatch_count == 1
    # From now on one hint is outstanding, and the next waits as it should.
    assert service.sweep().hinted == 0
    Run.objects.filter(pk=run.pk).update(dispatched_at=F("dispatched_at") - timedelta(seconds=0.2))
    Run.objects.filter(pk=run.pk).update(lease_expires_at=F("dispatched_at") - timedelta(seconds=1))
    assert service.sweep().hinted == 0


@pytest.mark.django_db(transaction=True)
@pytest.mark.covers("fault:O9")
@pytest.mark.parametrize("count", [0, 1, 2, 6])
def test_several_sweeps_send_one_hint_for_a_lapsed_run(sent: Any, count: int) -> None:
    run = make([]).send()
    sent.clear()
    now = timezone.now()
    lost = {"status": "running", "attempt": 1, "lease_expires_at": now - timedelta(seconds=1)}
    Run.objects.filter(pk=run.pk).update(**lost, dispatched_at=now - timedelta(seconds=2), dispatch_count=count)
    reports = race(*[service.sweep] * 4)
    assert sum(report.hinted for report in reports) == 1 and sent == [run.pk]
