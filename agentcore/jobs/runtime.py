"""The one runtime of a process that drives runs."""

from __future__ import annotations

from collections.abc import Callable

from ..engine.runtime import Runtime, this_worker

SUSPECT = "suspect"


def make(*, alone: bool, gives_up_on: tuple[type[BaseException], ...] = ()) -> Runtime:
    """Return a runtime; `alone` is for a process that drives one run and may be lost with it."""
    return Runtime(this_worker(), gives_up_on=gives_up_on)


def drain(runtime: Runtime) -> None:
    """Have every drive give its run back at its next step boundary; called on the loop's thread."""
    method: Callable[[], None] | None = getattr(runtime, "drain", None)
    if method is not None:
        method()


def stuck_threads(runtime: Runtime) -> int:
    """Return how many of the application's threads have outlived their tool's timeout."""
    method: Callable[[], int] | None = getattr(runtime, "stuck_threads", None)
    return 0 if method is None else method()


async def close(runtime: Runtime) -> None:
    """Write what is left, and close the runtime."""
    method = getattr(runtime, "aclose", None)
    if method is not None:
        await method()
