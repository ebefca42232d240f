"""Named points at which a test makes a process die, wait or fail; nothing happens at them anywhere else.

Where `AGENTCORE["FAILPOINTS"]` is true, which is for test settings only, `agentcore.testing.faults.plans`
installs what is to happen.
"""

from __future__ import annotations

from typing import Protocol


class Plan(Protocol):
    """What happens at which point."""

    def meet(self, name: str) -> None: ...
    async def ameet(self, name: str) -> None: ...


_plan: Plan | None = None


def install(plan: Plan | None) -> Plan | None:
    """Have the points of this process do what a plan says, or nothing; returns the plan it replaces."""
    global _plan
    before, _plan = _plan, plan
    return before


def failpoint(name: str) -> None:
    """Do what a test wants done at this point; nothing at all outside of one."""
    if _plan is not None:
        _plan.meet(name)


async def afailpoint(name: str) -> None:
    """Do what `failpoint` does, without holding up the event loop while it waits."""
    if _plan is not None:
        await _plan.ameet(name)
