"""Starting runs: send a message, start over the history, retry what failed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Max, QuerySet

from ..access import SYSTEM, get_policy
from ..database.again import unit
from ..declaration import registry
from ..declaration.agent import AgentDefinition
from ..exceptions import Conflict, Invalid, KeyConflict, NotAllowed, RequestError, RunActive, ThreadBusy
from ..journal import fence
from ..models import Message, Run, Thread, ToolCall
from ..models.run import RunQuerySet
from ..states import RunStatus, ToolCallStatus
from ..values import jsontext, parts
from ..values.parts import Part
from . import creating, messages, places, runs, sizes
from .creating import Entry
from .messages import Content
from .twins import twin

LONGEST_KEY = 200
# A thread is held while its other runs are looked at.
LOOKS_FIRST = ("reject", "interrupt")
# A try fails only where another sender's run came first; so many in a row are not to be expected.
MOST_TRIES = 30


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


@unit
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
    about = sizes.metadata(metadata)
    key = jsontext.clean_text(key)
    request = _request_digest(typed, about)
    if len(key) > LONGEST_KEY:
        raise Invalid(f"The key has {len(key)} characters; the limit is {LONGEST_KEY}.")
    submission = Submission(definition, found, typed, user, key, request, about)
    for _ in range(MOST_TRIES):
        try:
            with transaction.atomic() if definition.on_busy in LOOKS_FIRST else creating.whole():
                return Started(_start(submission), created=True)
        except _StartOver:
            continue
        except (IntegrityError, ThreadBusy):
            # The run that is in the way may be one that the same request has made before, with the same key.
            earlier = _same_key(submission)
            if earlier is None:
                raise
            return Started(earlier, created=False)
    raise Conflict("Other messages keep coming in this thread. Send this one again.")


@unit
def retry(run: Run | UUID | str, *, user: Any) -> Run:
    """Start a new run, on the agent's current version, for the prompt of one that failed or was canceled.

    While a retry of the same turn lives, asking again returns it: two runs never
    write into one turn at a time. Raises what `why_not_retry` returns, and
    `ThreadBusy` where the agent rejects work in a busy thread.
    """
    old = runs.get(run, user=user)
    with transaction.atomic():
        places.hold(old.thread)
        refusal = why_not_retry(old, user=user)
        if refusal is not None:
            raise refusal
        definition = registry.get(old.agent)
        again = living_retry(old)
        if again is not None:
            return again
        if definition.on_busy == "reject" and Run.objects.filter(thread=old.thread).live().exists():
            raise ThreadBusy
        new = creating.row(definition, old.thread, old.user or SYSTEM)  # for the same user
        new.order, new.prompt, new.retry_of, new.metadata = old.order, old.prompt, old, old.metadata
        new.started_by = old.started_by  # where that account is deleted, the run does not become the system's
        new.next_step_order = _next_step_order(old)
        creating.add(Entry(old.thread, run=new, opens_turn=False))
    return new


def why_not_retry(run: Run, *, user: Any) -> RequestError | None:
    """Return why `user`, who sees the run, cannot retry it; None where they can."""
    if user is not SYSTEM and not get_policy().may_retry(user, run):
        return NotAllowed("You may see this run, but not retry it.")
    if not run.terminal:
        return RunActive()
    if run.status == RunStatus.SUCCEEDED:
        return Conflict("The run succeeded; there is nothing to retry.")
    doubtful = ToolCall.objects.filter(run__in=_turn(run), status=ToolCallStatus.EFFECT_UNVERIFIED)
    if doubtful.exists():
        return Conflict("A call of this turn may have taken effect. Say first whether it did.")
    return None


def living_retry(run: Run) -> Run | None:
    """Return the retry of an ended run's turn that has not ended; there is one at most."""
    return _turn(run).live().select_related("thread").order_by("number").first()


def _turn(run: Run) -> RunQuerySet:
    """Return the runs of one turn: the first one, its retries, and theirs."""
    return Run.objects.filter(thread=run.thread_id, order=run.order)


def _next_step_order(run: Run) -> int:
    """Return the first free place in the turn; the thread is locked, and all runs of the turn have ended."""
    allocated = _turn(run).aggregate(last=Max("next_step_order"))["last"]
    said = Message.objects.filter(thread=run.thread_id, order=run.order).aggregate(last=Max("step_order"))["last"]
    return max(allocated or 1, 1 if said is None else said + 1)


@dataclass(frozen=True)
class Submission:
    """A start as it was asked for, checked and clean."""

    definition: AgentDefinition
    thread: Thread
    content: tuple[Part, ...] | None
    user: Any
    key: str
    request: str
    metadata: dict[str, Any]


class _StartOver(Exception):
    """A run was added after the live runs were read and before their thread was locked."""


def _start(submission: Submission) -> Run:
    """Start a run; where the same request has made one already, the database refuses it, and nothing is changed."""
    definition, thread = submission.definition, submission.thread
    if definition.on_busy in LOOKS_FIRST:
        _make_way(submission)
    prompt = None
    if submission.content is not None:
        prompt = messages.in_turn(thread, submission.content, user=submission.user, key=submission.key)
    run = creating.row(definition, thread, submission.user)
    run.prompt, run.key, run.request_digest = prompt, submission.key, submission.request
    run.metadata = submission.metadata
    creating.add(Entry(thread, prompt, run))
    return run


def _make_way(submission: Submission) -> None:
    """Hold the thread, and end the other runs that live there, or raise `ThreadBusy`.

    Runs to interrupt are locked before their thread. So they are read before it is locked, and
    again afterwards, when no run can be added.
    """
    interrupts = submission.definition.on_busy == "interrupt"
    held = fence.hold_all(_others(submission)) if interrupts else {}
    places.hold(submission.thread)
    if set(_others(submission)) - held.keys():
        raise _StartOver if interrupts else ThreadBusy
    for one in held.values():
        runs.end_held(one, "A new message has come.")


def _same_key(submission: Submission) -> Run | None:
    if not submission.key:
        return None
    same = Run.objects.filter(thread=submission.thread, agent=submission.definition.name, key=submission.key)
    earlier = same.select_related("thread").first()
    if earlier is not None and earlier.request_digest != submission.request:
        raise KeyConflict
    return earlier


def _others(submission: Submission) -> QuerySet[Run, UUID]:
    """Return the live runs of the thread, without one that the same request has made before."""
    others = Run.objects.filter(thread=submission.thread).live()
    if submission.key:
        others = others.exclude(agent=submission.definition.name, key=submission.key)
    return others.values_list("pk", flat=True)


def _request_digest(typed: tuple[Part, ...] | None, metadata: dict[str, Any]) -> str:
    content = None if typed is None else parts.to_json(typed)
    return jsontext.digest(jsontext.canonical(content), jsontext.canonical(metadata))


asend = twin(send)
astart = twin(start)
aretry = twin(retry)
