"""Who looks after a claim: its worker's heartbeat, as long as the worker works on it, and not a moment longer."""

from __future__ import annotations

import asyncio
from typing import Any, cast
from uuid import uuid4

import pytest
from django.conf import LazySettings

from agentcore.journal.commit import Allocation, Claim
from agentcore.journal.lease import Heartbeat
from agentcore.journal.writer import Journal

pytestmark = pytest.mark.once


class SlowJournal:
    """Answers every renewal when it is told to."""

    def __init__(self) -> None:
        self.asked: list[asyncio.Future[Allocation]] = []

    def send(self, claim: Claim, entry: Any, **options: Any) -> asyncio.Future[Allocation]:
        self.asked.append(asyncio.get_running_loop().create_future())
        return self.asked[-1]

    def answer(self) -> None:
        for answer in self.asked:
            if not answer.done():
                answer.set_result(GRANTED)


GRANTED = Allocation(0, False)


async def still_ours(claims: list[Claim]) -> Any:
    return {claim.run_id: False for claim in claims}


async def test_a_renewal_that_is_answered_after_the_work_does_not_keep_the_claim(settings: LazySettings) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "CANCEL_POLL_SECONDS": 0.02, "LEASE_SECONDS": 0.5}
    journal = SlowJournal()

    async def read(function: Any, claims: list[Claim]) -> Any:
        return await still_ours(claims)

    heartbeat = Heartbeat(cast(Journal, journal), read)
    claim = Claim(uuid4(), uuid4(), uuid4(), uuid4(), 1, "test", attempt=1)
    with heartbeat.lease(claim) as lease:
        lease.renew(0.0, GRANTED)
        while not journal.asked:  # noqa: ASYNC110 - the renewal is due in a sixth of a second
            await asyncio.sleep(0.01)
    journal.answer()
    await asyncio.sleep(0.05)
    renewals = len(journal.asked)
    await asyncio.sleep(0.5)
    assert len(journal.asked) == renewals and heartbeat._leases == {}
    await heartbeat.stop()
