"""What an operator may do to a run: why it cannot be done, what it does, and how the result is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ..declaration.tool import EffectKind
from ..exceptions import RequestError
from ..models import Run
from ..services import runs as service
from ..services import sending
from ..states import ToolCallStatus


@dataclass(frozen=True)
class Operation:
    """One thing to do to a run; `refusal` and `perform` take the run, who asks, and (to perform) the reason given."""

    name: str
    label: str | Promise
    refusal: Callable[[Run, Any], str]
    perform: Callable[[Run, Any, str], str]


@dataclass(frozen=True)
class Notice:
    """What became of one run: a message, and a note for the history where something was done."""

    level: int
    text: str
    note: str = ""


def apply(operation: Operation, run: Run, user: Any, reason: str = "") -> Notice:
    """Do it, if it can still be done; a second time it says so and does nothing."""
    name = f"{run} ({str(run.pk)[-8:]})"
    refusal = operation.refusal(run, user)
    if refusal:
        return Notice(messages.WARNING, f"{name}: {refusal}")
    try:
        sentence = operation.perform(run, user, reason)
    except RequestError as error:
        return Notice(messages.ERROR, f"{name}: {error.message}")
    return Notice(messages.SUCCESS, f"{name}: {sentence}", sentence)


def repeated_effects(run: Run) -> int:
    """Return how many calls of this run did something that a retry may do again."""
    done = run.tool_calls.filter(status=ToolCallStatus.SUCCEEDED)
    return int(done.exclude(effect=EffectKind.PURE).count())


def _cancel(run: Run, user: Any, reason: str) -> str:
    over = service.cancel(run, user=user, reason=reason)
    return _("Cancelled.") if over.terminal else _("Cancel requested; its worker ends it.")


def _cannot_retry(run: Run, user: Any) -> str:
    refusal = sending.why_not_retry(run, user=user)
    if refusal is not None:
        return refusal.message
    again = sending.living_retry(run)  # asking for it again would only return it
    return "" if again is None else _("It was retried already, as run %(number)d.") % {"number": again.number}


def _retry(run: Run, user: Any, reason: str) -> str:
    new = sending.retry(run, user=user)
    return _("Retried as run %(number)d.") % {"number": new.number}


def _resume(run: Run, user: Any, reason: str) -> str:
    service.resume(run, user=user)
    return _("Resumed.")


def _sentence(refusal: Callable[..., RequestError | None]) -> Callable[[Run, Any], str]:
    """Return the service's own refusal as the sentence a page shows; empty where there is none."""

    def say(run: Run, user: Any) -> str:
        found = refusal(run, user=user)
        return "" if found is None else found.message

    return say


CANCEL = Operation("cancel", gettext_lazy("Cancel"), _sentence(service.why_not_cancel), _cancel)
RETRY = Operation("retry", gettext_lazy("Retry"), _cannot_retry, _retry)
RESUME = Operation("resume", gettext_lazy("Resume"), _sentence(service.why_not_resume), _resume)
