"""A minute of the soak; `make soak` runs it for longer."""

from __future__ import annotations

import pytest

from tests.faults.soak.scene import Soak
from tests.stack import Stack

SEED = 20260


@pytest.mark.own_workers
@pytest.mark.postgres
@pytest.mark.timeout(400)
@pytest.mark.longer
@pytest.mark.covers("promise:P1", "promise:P2", "promise:P4", "promise:P5", "promise:P6", "promise:P7", "promise:P8")
def test_nothing_is_lost_doubled_or_stuck_after_a_minute_of_faults(outage_stack: Stack) -> None:
    report = Soak(outage_stack, SEED, minutes=1).run()
    assert report.violations == [], str(report)
    assert all(report.witnessed.values()), report.witnessed
    assert report.runs.total() > 50 and sum(report.faults.values()) > 100
