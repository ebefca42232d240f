"""What one model step works with."""

from __future__ import annotations

from dataclasses import dataclass

from ...declaration.agent import AgentDefinition
from ...journal.lease import Lease
from ..runtime import Runtime
from ..snapshot import Snapshot
from .draft import Draft


@dataclass(frozen=True)
class Turn:
    """What one model step needs; `draft` collects what the model says, and is kept where the step is broken off."""

    definition: AgentDefinition
    state: Snapshot
    runtime: Runtime
    lease: Lease
    draft: Draft
