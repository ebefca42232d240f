"""What is deleted while somebody acts on it is not there for them, as if it had never been."""

from __future__ import annotations

import pytest

from agentcore import SYSTEM
from agentcore.exceptions import NotFound
from agentcore.models import Thread
from agentcore.services import deletion, runs
from agentcore.testing import Turn
from tests.integration.room import make

pytestmark = pytest.mark.django_db


@pytest.mark.covers("fc:D1")
def test_a_run_whose_thread_is_deleted_while_it_is_canceled_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    run = make([Turn(text="Hello.")]).send()
    monkeypatch.setattr(runs, "dispatch_next", lambda run_id: deletion.delete(run.thread_id, user=SYSTEM))
    with pytest.raises(NotFound):
        runs.cancel(run, user=SYSTEM)
    assert not Thread.objects.filter(pk=run.thread_id).exists()
