"""Why a worker let go of a run."""

from __future__ import annotations

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
