"""I4, I5, I6, I8, I9 and I15 of a run's tool calls, and P8: what was done to the world, and by whose leave."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence

from ....declaration.tool import EffectKind
from ....models import Approval, ToolCall
from ....states import CLOSED_CALL_STATUSES, OPEN_CALL_STATUSES, ApprovalStatus, ToolCallStatus
from ....values import jsontext
from ....values.parts import ToolResultPart
from .evidence import Dossier, Effect, Evidence, Violation, by_call

ONCE = (EffectKind.UNSAFE, EffectKind.ATOMIC)
MAY_HAVE_HAPPENED = (ToolCallStatus.SUCCEEDED, ToolCallStatus.EFFECT_UNVERIFIED)


def of_run(dossier: Dossier, evidence: Evidence) -> Iterator[Violation]:
    """Compare a run's calls with the world, with its approvals and with its messages."""
    effects = by_call(evidence.effects, dossier.run) if evidence.effects is not None else None
    if effects is not None:
        yield from _effects(dossier, evidence, effects)
        yield from _given(dossier, effects)
    yield from _results(dossier)
    yield from _approvals(dossier, effects or {})
    yield from _cancel(dossier)


def _effects(dossier: Dossier, evidence: Evidence, effects: dict[str, list[Effect]]) -> Iterator[Violation]:
    calls = {call.call_id: call for call in dossier.calls}
    for call_id in effects.keys() - calls.keys():
        yield dossier.violates("I6", f"call {call_id} took effect and is not recorded")
    for call_id, call in calls.items():
        attempts = [effect.attempt for effect in effects.get(call_id, [])]
        allowed = 1 + dossier.repeats.get(call_id, 0)
        if call.effect in ONCE and len(attempts) > allowed:
            seen = f"{call.effect} call {call_id} took effect {len(attempts)} times, in attempts {attempts}"
            yield dossier.violates("I4", seen)
        if call.status == ToolCallStatus.SUCCEEDED and call.name in evidence.acting_tools and not attempts:
            yield dossier.violates("I5", f"call {call_id} is shown as succeeded and took no effect")
        if attempts and call.effect == EffectKind.ATOMIC and call.status != ToolCallStatus.SUCCEEDED:
            yield dossier.violates("I6", f"atomic call {call_id} took effect and is {call.status}")
        honest = (*MAY_HAVE_HAPPENED, *(() if dossier.run.terminal else OPEN_CALL_STATUSES))
        if attempts and call.effect != EffectKind.PURE and call.status not in honest and not _given_up(dossier, call):
            yield dossier.violates("I6", f"call {call_id} took effect and is shown as {call.status}")


def _given(dossier: Dossier, effects: dict[str, list[Effect]]) -> Iterator[Violation]:
    """Compare what each body was given with what is stored of its call, or with what a person made of that."""
    approved = {item.tool_call_id: item for item in dossier.approvals if item.status == ApprovalStatus.APPROVED}
    for call in dossier.calls:
        approval = approved.get(call.pk)
        due = json.loads(approval.effective_arguments if approval else call.arguments)
        for effect in effects.get(call.call_id, ()):
            if effect.arguments is not None and dict(effect.arguments) != due:
                seen = f"call {call.call_id} was given {jsontext.canonical(effect.arguments)[:200]}"
                what = "approved" if approval else "stored"
                yield dossier.violates("I15", f"{seen}, and {what} is {jsontext.canonical(due)[:200]}")


def _given_up(dossier: Dossier, call: ToolCall) -> bool:
    """Whether a person has given the call up, knowing that it may have happened."""
    told = [event.get("status") for event in dossier.events if event.get("call_id") == call.call_id]
    return call.status == ToolCallStatus.FAILED and ToolCallStatus.EFFECT_UNVERIFIED.value in told


def _results(dossier: Dossier) -> Iterator[Violation]:
    """A closed call has exactly one result a model can read; an open one has none yet."""
    shown: Counter[str] = Counter(
        part.call_id for message in dossier.messages for part in message.parts if isinstance(part, ToolResultPart)
    )
    for call in dossier.calls:
        owed = int(call.status in CLOSED_CALL_STATUSES or dossier.run.terminal)
        if shown[call.call_id] != owed:
            seen = f"call {call.call_id} is {call.status} and has {shown[call.call_id]} result messages"
            yield dossier.violates("I8", seen)
        if dossier.run.terminal and call.status in OPEN_CALL_STATUSES and call.status not in MAY_HAVE_HAPPENED:
            yield dossier.violates("I8", f"the run has ended and call {call.call_id} is {call.status}")


def _approvals(dossier: Dossier, effects: dict[str, list[Effect]]) -> Iterator[Violation]:
    asked: dict[object, list[Approval]] = {}
    for approval in dossier.approvals:
        asked.setdefault(approval.tool_call_id, []).append(approval)
    announced = {event.get("call_id") for event in dossier.events if event.get("needs_approval") is True}
    for call in dossier.calls:
        if call.pk in asked or call.call_id in announced:
            for seen in _gate(dossier, call, asked.get(call.pk, []), effects.get(call.call_id, [])):
                yield dossier.violates("I9", f"gated call {call.call_id} {seen}")


def _gate(dossier: Dossier, call: ToolCall, asked: Sequence[Approval], effects: Sequence[Effect]) -> Iterator[str]:
    """Say what is wrong with the leave that a gated call was run by."""
    approved = [item for item in asked if item.status == ApprovalStatus.APPROVED]
    ran = call.tries > 0 or bool(effects)
    if not ran:
        if any(item.consumed_at for item in asked):
            yield "was never run, and its approval is consumed"
        return
    if len(approved) != 1:
        yield f"was run with {len(approved)} approvals of {[str(item.status) for item in asked]}"
        return
    (approval,) = approved
    again = dossier.repeats.get(call.call_id, 0)
    if call.effect == EffectKind.UNSAFE and max(call.tries, len(effects)) > 1 + again:
        yield f"was run {max(call.tries, len(effects))} times by one approval"
    if approval.consumed_at is None:
        yield "was run, and its approval is not consumed"
    if call.arguments != approval.effective_arguments or approval.digest != _digest(call, approval):
        yield "was run with other arguments than were approved"
    if approval.decided_at is not None and approval.decided_at > approval.expires_at:
        yield "was approved after the approval had expired"
    if approval.consumed_at is not None and approval.decided_at and approval.consumed_at < approval.decided_at:
        yield "was run before it was approved"
    cancel = dossier.run.cancel_requested_at
    if approval.consumed_at is not None and cancel is not None and approval.consumed_at > cancel:
        yield "was run after the run was to be cancelled"


def _digest(call: ToolCall, approval: Approval) -> str:
    return call.digest_of(approval.arguments)


def _cancel(dossier: Dossier) -> Iterator[Violation]:
    cancel = dossier.run.cancel_requested_at
    for step in dossier.steps:
        if cancel is not None and step.started_at > cancel:
            yield dossier.violates("P8", f"step {step.number} started after the cancel was acknowledged")
