"""Decisions: approve or deny recorded calls, many at once, each bound to what its decider was shown."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from django.db import transaction
from django.db.models import Count, QuerySet

from ..access import SYSTEM, get_policy, name_of, require, visible_approvals
from ..conf import get_settings
from ..database.again import unit
from ..database.dialect import DbNow
from ..declaration import registry
from ..engine import transitions
from ..exceptions import (
    AlreadyDecided,
    ApprovalExpired,
    DigestMismatch,
    Invalid,
    ModelRetry,
    NotAllowed,
    NotFound,
    NotKept,
    RunEnded,
    TooLarge,
)
from ..failpoints import failpoint
from ..journal import fence, write
from ..journal.commit import Commit, Held, Move, Moved, combined
from ..models import Approval, Run, ToolCall
from ..states import BLOCKED_CALL_STATUSES, ApprovalStatus, RunStatus, ToolCallStatus
from ..values import events, jsontext
from ..values.clock import NOW
from ..values.logextra import log_extra
from . import dispatch
from .ids import id_of
from .twins import listing, twin

Verdict = Literal["approve", "deny"]
LONGEST_REASON = 2000
ARGUMENTS_REFUSED = (
    "The tool cannot take these arguments: the application has a mistake in it, which its log names. "
    "Change them, approve the call as it was asked, or deny it."
)

NOT_EDITED = (
    "The arguments of this call cannot be edited, for only the worker knows its tool. Approve it as it is, or deny it "
    "and say why: the model reads that, and may ask again."
)

logger = logging.getLogger("agentcore.approvals")


@dataclass(frozen=True)
class Decision:
    """One decision; `digest` is the one its decider was shown, `edited_arguments` replace what was asked."""

    approval: UUID | str
    verdict: Verdict
    digest: str
    reason: str = ""
    edited_arguments: Mapping[str, Any] | None = None


def approve(
    approval: Approval | UUID | str,
    *,
    user: Any,
    digest: str,
    reason: str = "",
    edited_arguments: Mapping[str, Any] | None = None,
) -> Approval:
    """Approve one call, as it is or with edited arguments; raises what `decide` does."""
    return decide([Decision(id_of(approval), "approve", digest, reason, edited_arguments)], user=user)[0]


def deny(approval: Approval | UUID | str, *, user: Any, digest: str, reason: str = "") -> Approval:
    """Deny one call; the model is told, with the reason; raises what `decide` does."""
    return decide([Decision(id_of(approval), "deny", digest, reason)], user=user)[0]


@unit
def decide(decisions: Sequence[Decision], *, user: Any) -> list[Approval]:
    """Record all the decisions, or none of them.

    A waiting run goes on, in the same transaction, once nothing else is owed to it. The
    same person may send the same decision again. Raises `NotFound`, `NotAllowed`,
    `AlreadyDecided`, `DigestMismatch`, `ApprovalExpired`, `RunEnded` or `Invalid`;
    nothing is decided then.
    """
    require(user)
    by_id = {id_of(item.approval): item for item in decisions}
    if len(by_id) != len(decisions):
        raise Invalid("An approval is named twice. Decide each once.")
    found = {
        item.pk: item
        for item in visible_approvals(user).filter(pk__in=by_id).select_related("tool_call", "run__thread")
    }
    if len(found) != len(by_id):
        raise NotFound
    _check_allowed(found.values(), user)
    try:
        with transaction.atomic():
            transaction.on_commit(lambda: failpoint("after_approval_commit"))  # first, so that it comes before the hint
            asked = {item.run_id for item in found.values()}
            held = fence.hold_all(asked)
            if len(held) < len(asked):
                _check_repeats(asked - held.keys(), by_id, user)
            record_all(_answers_to(held, by_id, user))
            # Read while the runs are locked: after the commit, their thread may be deleted at any moment.
            rows = Approval.objects.select_related("tool_call", "run").in_bulk(list(by_id))
            if len(rows) < len(by_id):
                raise NotFound
    except AlreadyDecided as error:
        # The deciding statement reads the clock anew: an approval may have expired since it was checked.
        if Approval.objects.expired(DbNow()).filter(pk__in=by_id).exists():
            raise ApprovalExpired from error
        raise
    return [rows[key] for key in by_id]


def pending(*, user: Any) -> QuerySet[Approval]:
    """Return the pending approvals that `user` sees, oldest first."""
    owed = visible_approvals(user, Approval.objects.pending())
    return owed.select_related("tool_call", "run").order_by("requested_at", "pk")


@unit
def expire(approval_id: UUID) -> bool:
    """Close an approval that has expired, and tell the model; returns whether this call closed it."""
    approval = Approval.objects.filter(pk=approval_id).first()
    if approval is None:
        return False
    with transaction.atomic():
        held = fence.hold(approval.run_id)
        row = Approval.objects.pending().select_related("tool_call").filter(pk=approval_id).first()
        if held is None or row is None or row.expires_at > held.now:
            return False
        run = Run.objects.get(pk=held.run_id)
        error = "Nobody decided in time. The call was not run."
        closed = transitions.close_call(run, row.tool_call, ToolCallStatus.DENIED, error=error)
        record(held, transitions.void(row, ApprovalStatus.EXPIRED, error).and_then(closed))
    return True


def _check_repeats(ended: Collection[UUID], decisions: Mapping[UUID, Decision], user: Any) -> None:
    """Raise `RunEnded` unless each decision on the ended runs repeats one that was made before their end."""
    rows = Approval.objects.filter(run_id__in=ended, pk__in=list(decisions)).select_related("tool_call", "run")
    if not all(_is_repeat(row, decisions[row.pk], user) for row in rows):
        raise RunEnded


@dataclass(frozen=True)
class Answered:
    """Answers to `count` open calls of one run, as one commit; the run's row is held."""

    held: Held
    commit: Commit
    count: int = 1


def _answers_to(held: Mapping[UUID, Held], decisions: Mapping[UUID, Decision], user: Any) -> list[Answered]:
    """Return the new decisions, gathered by run; a run whose decisions were all made before is left out."""
    asked = Approval.objects.filter(run_id__in=held, pk__in=list(decisions)).select_related("tool_call", "run")
    commits: dict[UUID, list[Commit]] = {}
    for row in asked.order_by("pk"):
        decision = decisions[row.pk]
        if not _is_repeat(row, decision, user):
            _check_open(row, decision, held[row.run_id])
            commits.setdefault(row.run_id, []).append(_commit_of(row, decision, user))
    return [Answered(held[run_id], combined(decided), len(decided)) for run_id, decided in commits.items()]


def record(held: Held, commit: Commit) -> None:
    """Record one answer, as `record_all` does."""
    record_all([Answered(held, commit)])


def record_all(answers: Sequence[Answered]) -> None:
    """Record answers to open calls; a waiting run that owes no other goes on in the same transaction.

    A running or pending run needs no more than the record. Nor does a parked one: it waits for a person to resume it.
    """
    if not answers:
        return
    ids = [item.held.run_id for item in answers]
    blocked = ToolCall.objects.filter(run_id__in=ids, status__in=BLOCKED_CALL_STATUSES)
    still_open = dict(blocked.values_list("run_id").annotate(Count("pk")).order_by())
    parked = set(Run.objects.filter(pk__in=ids, poisoned_at__isnull=False).values_list("pk", flat=True))
    commits, go_on = [], []
    for item in answers:
        held, commit = item.held, item.commit
        settled = still_open.get(held.run_id, 0) == item.count and held.run_id not in parked
        if held.status is RunStatus.WAITING and settled:
            go_on.append(held.run_id)
            commit = commit.and_then(transitions.resumed(held))
        commits.append((held, commit))
    try:
        write.record_all(commits)
    except Moved as error:
        raise AlreadyDecided from error
    dispatch.hint(*go_on)


def _commit_of(row: Approval, decision: Decision, user: Any) -> Commit:
    """Return the commit of one decision; a denial is a result the model reads, an approval makes the call runnable."""
    approved = decision.verdict == "approve"
    status = ApprovalStatus.APPROVED if approved else ApprovalStatus.DENIED
    reason = jsontext.clean_text(decision.reason)[:LONGEST_REASON]
    name = name_of(user)
    edited = _edited(row, decision)
    values = {
        "status": status.value,
        "decided_at": NOW,
        "decided_by": None if user is SYSTEM else user.pk,
        "decided_by_name": name,
        "reason": reason,
        "edited_arguments": edited,
    }
    call = row.tool_call
    commit = Commit(
        events=[
            events.ApprovalResponse(
                str(row.pk), call.call_id, status.value, name, reason, json.loads(edited) if edited else None
            )
        ],
        moves=[Move(row, ApprovalStatus.PENDING, values, until="expires_at")],
        thread_events=[
            events.ThreadApproval(str(row.pk), str(row.run_id), call.call_id, call.name, status.value, name)
        ],
    )
    if not approved:
        error = f"Denied by {name}." + (f" Reason: {reason}" if reason else "")
        return commit.and_then(transitions.close_call(row.run, call, ToolCallStatus.DENIED, error=error))
    runnable: dict[str, Any] = {"status": ToolCallStatus.PENDING.value}
    if edited:
        asked = call.edit["asked"] if call.edit else row.arguments_json
        changed = edited != jsontext.canonical(asked)
        runnable["arguments"] = edited
        runnable["edit"] = {"v": 1, "asked": asked, "by": name, "reason": reason} if changed else None
    return commit.and_then(Commit(moves=[Move(call, ToolCallStatus.WAITING, runnable)]))


def _edited(row: Approval, decision: Decision) -> str:
    """Return the edited arguments as canonical text, checked against the tool's signature."""
    if decision.edited_arguments is None:
        return ""
    if decision.verdict != "approve":
        raise Invalid("Edited arguments go with an approval.")
    if "edit" not in row.allowed:
        raise Invalid(NOT_EDITED)
    if not isinstance(decision.edited_arguments, Mapping):
        raise Invalid("The edited arguments must be an object, with a value for each argument.")
    given = dict(decision.edited_arguments)
    if jsontext.size(given) > get_settings().arguments_limit:
        raise TooLarge(f"The edited arguments take more than {get_settings().arguments_limit} bytes. Shorten them.")
    if unkept := jsontext.unkept(given):
        raise Invalid(f"The edited arguments would not be stored as they are: they have {unkept}. Correct that.")
    tool = registry.get(row.run.agent).tools_by_name.get(row.tool_call.name)
    if tool is None:
        raise Invalid("The tool is not there any more, so its arguments cannot be edited. Deny the call.")
    try:
        text = jsontext.canonical(tool.validate(decision.edited_arguments))
    except ModelRetry as error:
        raise Invalid(error.message) from error
    except NotKept as error:
        about = log_extra("arguments_not_kept", row.run_id, row.tool_call.attempt)
        logger.error("tool %s cannot take edited arguments: %s", tool.name, error.message, exc_info=error, extra=about)
        raise Invalid(ARGUMENTS_REFUSED) from error
    return "" if text == row.arguments else text


def _check_allowed(rows: Any, user: Any) -> None:
    if user is SYSTEM:
        return
    policy = get_policy()
    if not all(policy.may_decide(user, row) for row in rows):
        raise NotAllowed("You may see this approval, but not decide it. Ask someone with the permission.")


def _check_open(row: Approval, decision: Decision, held: Held) -> None:
    if decision.verdict not in ("approve", "deny"):
        raise Invalid("The verdict must be approve or deny.")
    if row.status != ApprovalStatus.PENDING:
        raise AlreadyDecided(f"This approval is {row.status} already. Reload to see the decision.")
    call = row.tool_call
    is_its_own = row.run_id == call.run_id and row.arguments == call.arguments
    if not is_its_own or not decision.digest == row.digest == call.digest_of(row.arguments):
        raise DigestMismatch
    if row.expires_at <= held.now:
        raise ApprovalExpired


def _is_repeat(row: Approval, decision: Decision, user: Any) -> bool:
    """Whether the same person sent the same decision again, as a double click does."""
    before = {ApprovalStatus.APPROVED: "approve", ApprovalStatus.DENIED: "deny"}.get(ApprovalStatus(row.status))
    if before != decision.verdict or user is SYSTEM or row.decided_by_id != user.pk or decision.digest != row.digest:
        return False
    try:
        return _edited(row, decision) == row.edited_arguments
    except Invalid:
        return False


aapprove = twin(approve)
adeny = twin(deny)
adecide = twin(decide)
apending = listing(pending)
