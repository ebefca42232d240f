"""What a log record carries beside its sentence."""

from __future__ import annotations

import logging
from uuid import UUID

import pytest

from agentcore.values.logextra import log_extra

RUN = UUID(int=7)


@pytest.mark.once
def test_a_record_carries_what_is_given_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("agentcore.tests").warning("said", extra=log_extra("parked", RUN, 0, hints=3))
    (record,) = caplog.records
    assert [getattr(record, name) for name in ("action", "run_id", "attempt", "hints")] == ["parked", str(RUN), 0, 3]
    assert log_extra("swept") == {"action": "swept"}
