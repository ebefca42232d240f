"""Whether a failed model call is tried again, and when."""

from __future__ import annotations

import random
from dataclasses import dataclass

from ..conf import get_settings
from ..exceptions import ModelError

SHORT = 5.0  # seconds a worker waits itself; longer delays give the run back
LONGEST = 300.0


@dataclass(frozen=True)
class Retry:
    """Try again after `delay` seconds."""

    delay: float

    @property
    def keeps_worker(self) -> bool:
        """Whether the delay is short enough to wait in the worker."""
        return self.delay <= SHORT


def after(error: ModelError, failed_before: int) -> Retry | None:
    """Return when to try again, or None when the run must fail.

    `failed_before` counts the failures of this step up to now. A provider's own
    `Retry-After` wins over the exponential backoff; where it is longer than the setting
    allows, the run fails, and says so.
    """
    if not error.retryable or failed_before >= get_settings().model_retries:
        return None
    if error.retry_after is not None:
        return Retry(error.retry_after) if error.retry_after <= get_settings().retry_after_limit else None
    backoff = 0.5 * 2**failed_before
    return Retry(min(backoff * random.uniform(0.75, 1.25), LONGEST))  # noqa: S311 - jitter, not a secret
