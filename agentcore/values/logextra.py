"""Makes the extra attributes of a log record: an action, and the run and attempt that it concerns."""

from __future__ import annotations

from uuid import UUID


def log_extra(
    action: str, run_id: UUID | str | None = None, attempt: int | None = None, **more: object
) -> dict[str, object]:
    """Return the `extra` of a log record; what is None is left out of it."""
    given = {"action": action, "run_id": None if run_id is None else str(run_id), "attempt": attempt, **more}
    return {name: value for name, value in given.items() if value is not None}
