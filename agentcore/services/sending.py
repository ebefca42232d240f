"""Starting runs: send a message, start over the history, retry what failed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from .. import events, jsontext, parts, registry
from ..access import SYSTEM, require
from ..definition import AgentDefinition
from ..engine import claim as claims
from ..engine import journal
from ..engine.claim import Held
from ..exceptions import Conflict, Invalid, KeyConflict, NotFound, RunActive, ThreadBusy
from ..models import Message, Run, Thread, ToolCall
from ..parts import Part
from ..states import RunStatus, ToolCallStatus
from ..streams import log
from . import messages, runs
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
        live = _hold_live(found, key) if definition.on_busy == "interrupt" else []
        _lock(found)
        for held in live:
            runs.end_held(held, "A new message has come.")
        earlier = _same_key(definition, found, key, request)
        if earlier is not None:
            return Started(earlier, created=False)
        if definition.on_busy == "reject" and Run.objects.filter(thread=found).live().exists():
            raise ThreadBusy
        order = messages.next_turn(found)
        prompt = None if typed is None else messages.in_turn(found, order, typed, user=user)
        run = _create(definition, found, order, prompt, user=user, key=key, request=request, metadata=about)
        return Started(run, created=True)


def retry(run: Run | UUID | str, *, user: Any) -> Run:
    """Start a new run, on the agent's current version, for the prompt of one that failed or was canceled.

    While such a retry lives, asking again returns it. Raises `RunActive` while the
    run itself lives, `Conflict` where it succeeded or where nobody knows yet whether
    one of its calls took effect.
    """
    old = runs.get(run.pk if isinstance(run, Run) else run, user=user)
    thread = messages.writable(old.thread, user=user)
    if not old.terminal:
        raise RunActive
    if old.status == RunStatus.SUCCEEDED:
        raise Conflict("The run succeeded; there is nothing to retry.")
    if ToolCall.objects.filter(run=old, status=ToolCallStatus.EFFECT_UNVERIFIED).exists():
        raise Conflict("A call of this run may have taken effect. Say first whether it did.")
    definition = registry.get(old.agent)
    with transaction.atomic():
        _lock(thread)
        again = Run.objects.select_related("thread").filter(retry_of=old).live().first()
        if again is not None:
            return again
        steps = Message.objects.filter(thread=thread, order=old.order).order_by("-step_order")
        last = steps.values_list("step_order", flat=True).first()
        new = _row(definition, thread, old.order, user)
        new.prompt, new.retry_of, new.metadata = old.prompt, old, old.metadata
        new.next_step_order = 1 if last is None else last + 1
        _open(new, thread, None)
    return new


def _lock(thread: Thread) -> None:
    """Lock a thread's row: the order in which sends get it is the order of their runs."""
    Thread.objects.filter(pk=thread.pk).update(updated_at=Now())


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
    run = _row(definition, thread, order, user)
    run.key, run.request_digest, run.metadata = key, request, metadata
    if prompt is not None:
        prompt.save(force_insert=True)
        run.prompt = prompt
    _open(run, thread, prompt)
    return run


def _row(definition: AgentDefinition, thread: Thread, order: int, user: Any) -> Run:
    """Return an unsaved run with the thread's next number; the thread's row is locked by the caller."""
    require(user)
    Thread.objects.filter(pk=thread.pk).update(next_number=F("next_number") + 1)
    number = Thread.objects.values_list("next_number", flat=True).get(pk=thread.pk) - 1
    return Run(
        thread=thread,
        number=number,
        agent=definition.name,
        agent_version=definition.version,
        user=thread.owner if user is SYSTEM else user,
        order=order,
        queued=definition.on_busy != "parallel",
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
    runs.hint(run.pk)


def _same_key(definition: AgentDefinition, thread: Thread, key: str, request: str) -> Run | None:
    if not key:
        return None
    earlier = Run.objects.select_related("thread").filter(thread=thread, agent=definition.name, key=key).first()
    if earlier is not None and earlier.request_digest != request:
        raise KeyConflict
    return earlier


def _hold_live(thread: Thread, key: str) -> list[Held]:
    """Lock what is live, but for the run this very request made before; runs are locked before their thread."""
    live = Run.objects.filter(thread=thread).live()
    others = live.exclude(key=key) if key else live
    return list(claims.hold_all(others.values_list("pk", flat=True)).values())


def _request_digest(typed: tuple[Part, ...] | None, metadata: dict[str, Any]) -> str:
    content = None if typed is None else parts.to_json(typed)
    return jsontext.digest(jsontext.canonical(content), jsontext.canonical(metadata))


asend = twin(send)
astart = twin(start)
aretry = twin(retry)
