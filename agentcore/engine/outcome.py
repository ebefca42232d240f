"""Why a worker let go of a run."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """Why a worker let go of a run, or left it alone."""

    NOTHING = "nothing"
    ENDED = "ended"
    SUSPENDED = "suspended"
    RELEASED = "released"
    LOST = "lost"
    SUSPECT = "suspect"
    OTHER_VERSION = "other_version"


@dataclass(frozen=True)
class LetGo:
    """What `advance` has come to; with `last`, the run has ended and no other waits for its turn in the thread."""

    outcome: Outcome
    last: bool = False
