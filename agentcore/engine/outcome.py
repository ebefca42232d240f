"""Why a worker let go of a run."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """Why a worker let go of a run, or left it alone; with `ENDED_LAST`, no other waits for its turn in the thread."""

    NOTHING = "nothing"
    ENDED = "ended"
    ENDED_LAST = "ended_last"
    SUSPENDED = "suspended"
    RELEASED = "released"
    LOST = "lost"
    SUSPECT = "suspect"
    OTHER_VERSION = "other_version"
