"""What models were asked, noted beside the world's log, whatever died afterwards."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from agentcore.providers import ModelRequest
from agentcore.testing import Asked
from tests.testapp import world


def note(request: ModelRequest, *, whole: bool) -> None:
    """Note one request; `whole` says that it was not cut."""
    asked = Asked.of(request, whole=whole)
    world.note(_beside(world.log()), [str(asked.run), asked.attempt, asked.step, list(asked.said), whole])


def requests(log: Path) -> list[Asked]:
    """What was asked so far, in order, beside this log of the world."""
    return [Asked(UUID(run), *rest) for run, *rest in world.notes(_beside(log))]


def _beside(log: Path) -> Path:
    return log.with_suffix(".requests")
