"""Runs: find, cancel, resume, link."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet

from ..access import SYSTEM, get_policy, visible_runs
from ..database.again import unit
from ..engine import transitions
from ..exceptions import Conflict, Invalid, NotAllowed, NotFound, RequestError, RunEnded
from ..journal import fence, write
from ..journal.commit import Commit, Held
from ..models import Run, RunLink, Thread
from ..states import RunStatus
from ..values import jsontext
from . import dispatch, threads
from .ids import id_of
from .twins import listing, twin

LONGEST_REASON = 500
LONGEST_KIND = 64
LONGEST_ID = 255


@unit
def cancel(run: Run | UUID | str, *, user: Any, reason: str = "") -> Run:
    """Cancel a run: at once where no worker drives it, else as soon as its worker sees it; a no-op on an ended run.

    Raises `NotFound` for a run `user` does not see, and `NotAllowed` for one they may not cancel.
    """
    found = get(run, user=user)
    refusal = why_not_cancel(found, user=user)
    if isinstance(refusal, NotAllowed):
        raise refusal
    with transaction.atomic():
        held = fence.hold(found.pk)
        if held is not None:
            end_held(held, reason)
    dispatch.hint_next(found.pk)
    return get(found.pk, user=user)


def why_not_cancel(run: Run, *, user: Any) -> RequestError | None:
    """Return why there is nothing for `user`, who sees the run, to cancel; None where there is."""
    if not _may_cancel(user, run):
        return NotAllowed("You may see this run, but not cancel it.")
    if run.terminal:
        return RunEnded("It has ended already.")
    return Conflict("It is being cancelled already.") if run.cancel_requested_at else None


def end_held(held: Held, reason: str) -> None:
    """Cancel a run whose row is held: end it where nobody drives it, ask its worker where somebody does."""
    reason = jsontext.clean_text(reason)[:LONGEST_REASON]
    asked = Commit(run={"cancels": True, "cancel_reason": reason})
    if held.status is RunStatus.RUNNING:
        write.record(held, asked)
        return
    run = Run.objects.get(pk=held.run_id)
    over = transitions.end(held, run, RunStatus.CANCELED, code="canceled", message=reason)
    write.record(held, asked.and_then(over))


@unit
def resume(run: Run | UUID | str, *, user: Any) -> Run:
    """Let a poisoned run, one that has cost several workers, try again.

    Raises `Conflict` for any other, `NotFound` for one `user` does not see, and `NotAllowed` for one they may
    not resume.
    """
    found = get(run, user=user)
    with transaction.atomic():
        held = fence.hold(found.pk, (RunStatus.WAITING,))
        refusal = why_not_resume(get(found.pk, user=user), user=user)
        if refusal is not None:
            raise refusal
        if held is None:  # it has been parked since this transaction looked for it
            raise Conflict
        write.record(held, transitions.resumed(held).and_then(Commit(run={"lost_leases": 0})))
        dispatch.hint(found.pk)
    return get(found.pk, user=user)


def why_not_resume(run: Run, *, user: Any) -> RequestError | None:
    """Return why `user`, who sees the run, cannot resume it; None where they can."""
    if not _may_cancel(user, run):
        return NotAllowed("You may see this run, but not resume it.")
    if run.status != RunStatus.WAITING or run.poisoned_at is None:
        return Conflict("The run is not parked, so there is nothing to resume.")
    return None


def get(run: Run | UUID | str, *, user: Any) -> Run:
    """Return a run `user` may see; raises `NotFound` for any other, there or not."""
    try:
        return visible_runs(user).select_related("thread").get(pk=id_of(run))
    except Run.DoesNotExist as error:
        raise NotFound from error


def list_(thread: Thread | UUID | str, *, user: Any) -> QuerySet[Run]:
    """Return a thread's runs, newest first; raises `NotFound` for a thread `user` does not see."""
    found = threads.get(thread, user=user)
    return Run.objects.filter(thread=found).select_related("thread").order_by("-number")


def link(run: Run | UUID | str, *, kind: str, external_id: str, user: Any) -> RunLink:
    """Note the id of the same work in another system; noting it twice is no error.

    Raises `NotFound` for a run `user` does not see, and `Invalid` for a `kind` or an `external_id` that is
    empty or too long (64 and 255 characters).
    """
    found = get(run, user=user)
    kind, external_id = jsontext.clean_text(kind), jsontext.clean_text(external_id)
    if not (0 < len(kind) <= LONGEST_KIND and 0 < len(external_id) <= LONGEST_ID):
        raise Invalid(f"A link needs a kind of 1 to {LONGEST_KIND} characters, and an id of 1 to {LONGEST_ID}.")
    return RunLink.objects.get_or_create(run=found, kind=kind, external_id=external_id)[0]


def _may_cancel(user: Any, run: Run) -> bool:
    return user is SYSTEM or get_policy().may_cancel(user, run)


acancel = twin(cancel)
aresume = twin(resume)
aget = twin(get)
alist = listing(list_)
alink = twin(link)
