"""Hooks of the application's that fail: the run ends, with the hook's code or one that the hook chose."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from ..conf import get_settings
from ..database.outage import is_outage
from ..exceptions import ModelError, RunError, UserError
from ..models import Run
from ..values.functions import kind_of
from . import application
from .runtime import Runtime

logger = logging.getLogger("agentcore.engine")

TRY_AGAIN = "Try again; if it lasts, tell whoever runs this site."


@dataclass(frozen=True)
class Hook:
    """How a hook's failure is told: as `what` to operators, with `code` and `message` to people who see the run."""

    what: str
    code: str
    message: str


@asynccontextmanager
async def asking(hook: Hook, run: Run, runtime: Runtime) -> AsyncIterator[None]:
    """Limit what is asked inside to the time of a tool, and turn its failure into the end of the run.

    A `RunError` or a `UserError` of the hook's is raised as it is: it says itself how the run ends.
    Anything else is raised as a `RunError` with the hook's code: a `ModelError` too, for no model has
    failed. An error of the database is the hook's own like any other, where the engine can read the run. Where it
    cannot, the database is away: its own error is raised, and whoever takes the run over asks again.
    """
    try:
        async with asyncio.timeout(get_settings().tool_timeout):
            yield
    except Exception as error:
        if isinstance(error, (RunError, UserError)) and not isinstance(error, ModelError):
            raise
        about = {"run_id": str(run.pk), "attempt": run.attempt, "action": hook.code}
        logger.exception("%s failed", hook.what, extra=about)
        if is_outage(error):
            await runtime.read(_read_again, run)
        detail = f"{hook.what} failed with {kind_of(application.cause_of(error))}."
        raise RunError(hook.message, code=hook.code, detail=detail) from error


def _read_again(run: Run) -> bool:
    return Run.objects.filter(pk=run.pk).exists()
