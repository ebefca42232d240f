"""Runs: send, start, cancel, retry, find, link."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Now

from .. import dispatch, events, jsontext, parts
from ..access import SYSTEM, get_policy, require
from ..clock import NOW
from ..definition import AgentDefinition
from ..engine import claim as claims
from ..engine import ending, journal
from ..exceptions import Conflict, Invalid, KeyConflict, NotAllowed, NotFound, RunActive, ThreadBusy
from ..models import Message, Run, RunLink, Thread, ToolCall
from ..parts import Part
from ..states import LIVE_RUN_STATUSES, RunStatus, ToolCallStatus
from ..streams import log
from . import messages, threads
from .messages import Content
from .twins import twin

LONGEST_KEY = 200


def send(
    definition: AgentDefinition,
    thread: Thread | UUID | str,
    content: Content,
    *,
    user: Any,
    key: str = "",
    metadata: Mapping[str, Any] | None = None,
) -> Run:
    """Save a message and start a run on it, in one transaction.

    The same `key` with the same input returns the run it made before; with other
    input it raises `KeyConflict`. Raises `ThreadBusy` where the agent rejects a
    message to a busy thread.
    """
    return start(definition, thread, content, user=user, key=key, metadata=metadata)


def start(
    definition: AgentDefinition,
    thread: Thread | UUID | str,
    content: Content | None = None,
    *,
    user: Any,
    key: str = "",
    metadata: Mapping[str, Any] | None = None,
) -> Run:
    """Create a run with a prompt, or over the history as it stands, and dispatch it on commit; see `send`."""
    return start_once(definition, thread, content, user=user, key=key, metadata=metadata).run


@dataclass(frozen=True)
class Started:
    """A run, and whether this call made it or an earlier one with the same key."""

    run: Run
    created: bool


def start_once(
    definition: AgentDefinition,
    thread: Thread | UUID | str,
    content: Content | None = None,
    *,
    user: Any,
    key: str = "",
    metadata: Mapping[str, Any] | None = None,
) -> Started:
    """Do what `start` does, and say whether the run is new."""
    found = messages.writable(thread, user=user)
    typed = None if content is None else messages.as_parts(content)
    about = jsontext.clean(dict(metadata or {}))
    key = jsontext.clean_text(key)
    request = _request_digest(typed, about)
    if len(key) > LONGEST_KEY:
        raise Invalid(f"The key has {len(key)} characters; the limit is {LONGEST_KEY}.")
    with transaction.atomic():
        if definition.on_busy == "interrupt":
            _interrupt(found, key)
        Thread.objects.filter(pk=found.pk).update(updated_at=Now())  # the lock that orders sends to a thread
        earlier = _same_key(definition, found, key, request)
        if earlier is not None:
            return Started(earlier, created=False)
        if definition.on_busy == "reject" and Run.objects.filter(thread=found).live().exists():
            raise ThreadBusy
        order = messages.next_turn(found)
        prompt = None if typed is None else messages.in_turn(found, order, typed, user=user)
        run = _create(definition, found, order, prompt, user=user, key=key, request=request, metadata=about)
        return Started(run, created=True)


def cancel(run: Run | UUID | str, *, user: Any, reason: str = "") -> Run:
    """Cancel a run: at once where no worker drives it, else as soon as its worker sees it; a no-op on an ended run."""
    found = get(_pk(run), user=user)
    if user is not SYSTEM and not get_policy().may_cancel(user, found):
        raise NotAllowed("You may see this run, but not cancel it.")
    with transaction.atomic():
        _cancel(found.pk, reason)
    dispatch_next(found.thread_id)
    return Run.objects.select_related("thread").get(pk=found.pk)


def retry(run: Run | UUID | str, *, user: Any) -> Run:
    """Start a new run for the prompt of one that failed or was canceled.

    Raises `RunActive` while it lives, `Conflict` where it succeeded or where nobody
    knows yet whether one of its calls took effect.
    """
    old = get(_pk(run), user=user)
    thread = messages.writable(old.thread, user=user)
    if not old.terminal:
        raise RunActive
    if old.status == RunStatus.SUCCEEDED:
        raise Conflict("The run succeeded; there is nothing to retry.")
    if ToolCall.objects.filter(run=old, status=ToolCallStatus.EFFECT_UNVERIFIED).exists():
        raise Conflict("A call of this run may have taken effect. Say first whether it did.")
    with transaction.atomic():
        Thread.objects.filter(pk=thread.pk).update(updated_at=Now())
        steps = Message.objects.filter(thread=thread, order=old.order).order_by("-step_order")
        last = steps.values_list("step_order", flat=True).first()
        new = _row(thread, old.order, user, agent=old.agent, version=old.agent_version, queued=old.queued)
        new.prompt, new.retry_of, new.metadata = old.prompt, old, old.metadata
        new.next_step_order = 1 if last is None else last + 1
        _open(new, thread, None)
    return new


def resume(run: Run | UUID | str, *, user: Any) -> Run:
    """Let a poisoned run, one that has cost several workers, try again; raises `Conflict` for any other."""
    found = get(_pk(run), user=user)
    if user is not SYSTEM and not get_policy().may_cancel(user, found):
        raise NotAllowed("You may see this run, but not resume it.")
    with transaction.atomic():
        held = claims.hold(found.pk, (RunStatus.WAITING,))
        if held is None or found.poisoned_at is None:
            raise Conflict("The run is not parked, so there is nothing to resume.")
        fresh = {"status": RunStatus.PENDING.value, "poisoned_at": None, "lost_leases": 0}
        resumed = journal.Commit(
            events=[events.RunResumed()], run=fresh, thread_events=[held.changed(RunStatus.PENDING)]
        )
        journal.record(held, resumed)
        hint(found.pk)
    return get(found.pk, user=user)


def get(run_id: UUID | str, *, user: Any) -> Run:
    """Return a run `user` may see; raises `NotFound` for any other, there or not."""
    try:
        return Run.objects.visible_to(user).select_related("thread").get(pk=threads.as_uuid(run_id))
    except Run.DoesNotExist as error:
        raise NotFound from error


def list_(thread: Thread | UUID | str, *, user: Any) -> QuerySet[Run]:
    """Return a thread's runs, newest first."""
    found = threads.get(thread.pk if isinstance(thread, Thread) else thread, user=user)
    return Run.objects.filter(thread=found).select_related("thread").order_by("-number")


def link(run: Run | UUID | str, *, kind: str, external_id: str, user: Any) -> RunLink:
    """Note the id of the same work in another system; noting it twice is no error."""
    found = get(_pk(run), user=user)
    return RunLink.objects.get_or_create(run=found, kind=kind, external_id=external_id)[0]


def dispatch_next(thread: Thread | UUID) -> None:
    """Send a hint for the run that is now first in a thread's queue, if there is one."""
    thread_id = thread.pk if isinstance(thread, Thread) else thread
    now = Run.objects.filter(thread_id=thread_id).live().values_list(Now(), flat=True).first()
    if now is None:
        return
    for run_id in Run.objects.filter(thread_id=thread_id).ready(now).values_list("pk", flat=True):
        hint(run_id)


def hint(run_id: UUID) -> None:
    """Note that a hint goes out, and send it after the commit; a lost one is sent again by the sweep."""
    Run.objects.filter(pk=run_id).update(dispatched_at=Now(), dispatch_count=F("dispatch_count") + 1)
    # Not a partial: where a robust hook raises, Django looks for its name, and a partial has none.
    transaction.on_commit(lambda: dispatch.enqueue(run_id), robust=True)


def _create(
    definition: AgentDefinition,
    thread: Thread,
    order: int,
    prompt: Message | None,
    *,
    user: Any,
    key: str,
    request: str,
    metadata: dict[str, Any],
) -> Run:
    run = _row(
        thread,
        order,
        user,
        agent=definition.name,
        version=definition.version,
        queued=definition.on_busy != "parallel",
    )
    run.key, run.request_digest, run.metadata = key, request, metadata
    if prompt is not None:
        prompt.save(force_insert=True)
        run.prompt = prompt
    _open(run, thread, prompt)
    return run


def _row(thread: Thread, order: int, user: Any, *, agent: str, version: str, queued: bool) -> Run:
    """Return an unsaved run with the thread's next number; the thread's row is locked by the caller."""
    require(user)
    Thread.objects.filter(pk=thread.pk).update(next_number=F("next_number") + 1)
    number = Thread.objects.values_list("next_number", flat=True).get(pk=thread.pk) - 1
    return Run(
        thread=thread,
        number=number,
        agent=agent,
        agent_version=version,
        user=thread.owner if user is SYSTEM else user,
        order=order,
        queued=queued,
    )


def _open(run: Run, thread: Thread, prompt: Message | None) -> None:
    """Save a new run, open its log and dispatch it."""
    run.stream = log.create(f"run:{run.pk}", sequencer="external")
    run.save(force_insert=True)
    held = claims.hold(run.pk, (RunStatus.PENDING,))
    if held is None:
        raise NotFound
    created = events.RunCreated(
        run=str(run.pk),
        thread=str(thread.pk),
        agent=run.agent,
        agent_version=run.agent_version,
        number=run.number,
        prompt=str(run.prompt_id) if run.prompt_id else None,
        retry_of=str(run.retry_of_id) if run.retry_of_id else None,
    )
    said = [events.ThreadMessage(prompt.to_event())] if prompt else []
    journal.record(held, journal.Commit(events=[created], thread_events=[*said, held.changed(RunStatus.PENDING)]))
    hint(run.pk)


def _same_key(definition: AgentDefinition, thread: Thread, key: str, request: str) -> Run | None:
    if not key:
        return None
    earlier = Run.objects.select_related("thread").filter(thread=thread, agent=definition.name, key=key).first()
    if earlier is not None and earlier.request_digest != request:
        raise KeyConflict
    return earlier


def _interrupt(thread: Thread, key: str) -> None:
    """Cancel what is live, but for the run this very request made before; runs are locked before the thread."""
    live = Run.objects.filter(thread=thread).live()
    others = live.exclude(key=key) if key else live
    for run_id in others.order_by("pk").values_list("pk", flat=True):
        _cancel(run_id, "A new message has come.")


def _cancel(run_id: UUID, reason: str) -> None:
    """End a run nobody drives; ask the worker of one that is driven."""
    held = claims.hold(run_id, LIVE_RUN_STATUSES)
    if held is None:
        return
    reason = jsontext.clean_text(reason)[:500]
    asked = {"cancel_requested_at": NOW, "cancel_reason": reason}
    if held.status is RunStatus.RUNNING:
        journal.record(held, journal.Commit(run=asked))
        return
    run = Run.objects.get(pk=run_id)
    over = ending.end(held, run, RunStatus.CANCELED, code="canceled", message=reason)
    journal.record(held, over.and_then(journal.Commit(run=asked)))


def _request_digest(typed: tuple[Part, ...] | None, metadata: dict[str, Any]) -> str:
    content = None if typed is None else parts.to_json(typed)
    return jsontext.digest(jsontext.canonical(content), jsontext.canonical(metadata))


def _pk(run: Run | UUID | str) -> UUID | str:
    return run.pk if isinstance(run, Run) else run


asend = twin(send)
astart = twin(start)
acancel = twin(cancel)
aretry = twin(retry)
aresume = twin(resume)
aget = twin(get)
alist = twin(list_)
alink = twin(link)
