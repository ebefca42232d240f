"""Runs: the durable pieces of agent work."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import models
from django.db.models import Exists, F, Func, OuterRef, Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from ..conf import get_settings
from ..states import (
    BLOCKED_CALL_STATUSES,
    LIVE_RUN_STATUSES,
    TERMINAL_RUN_STATUSES,
    WAITS_FOR,
    RunStatus,
    ToolCallStatus,
    WaitingReason,
)
from ..streams.models import Record
from ..values.ids import uuid7
from ..values.usage import Usage
from .fields import LONGEST_NAME, choices, only
from .tool_call import ToolCall

AGENT_MISSING = (
    "No worker that has looked at this run has its agent, {agent!r} in version {version!r}. Start workers of a release "
    "that declares it, in an app's agents.py."
)
SHOWN_NOTES = {"agent_missing": "This is taking longer than usual."}
MAX_BACKOFF = 6  # hints go out after 1, 2, 4 … up to 2**6 graces


class RunQuerySet(models.QuerySet["Run"]):
    """Scopes of runs; ownership is defined here and nowhere else."""

    def live(self) -> RunQuerySet:
        """Return the runs that have not ended."""
        return self.filter(status__in=LIVE_RUN_STATUSES)

    def ready(self, now: datetime | Func) -> RunQuerySet:
        """Return the pending runs that are due, and first in their thread's queue."""
        due = Q(available_at=None) | Q(available_at__lte=now)
        return self.filter(due, status=RunStatus.PENDING).exclude(Q(queued=True) & Exists(_ahead()))

    def waiting_reasons_of(self, runs: Iterable[Run]) -> dict[UUID, list[str]]:
        """Return, for each run, why it waits, derived from the open rows of all of them (at most one query)."""
        waiting = {run.pk: run for run in runs if run.status == RunStatus.WAITING}
        reasons: dict[UUID, set[str]] = {key: set() for key in waiting}
        open_rows = ToolCall.objects.filter(run__in=waiting, status__in=BLOCKED_CALL_STATUSES) if waiting else ()
        for call in open_rows:
            reasons[call.run_id].add(WAITS_FOR[ToolCallStatus(call.status)].value)
        for key, run in waiting.items():
            if run.poisoned_at is not None:
                reasons[key].add(WaitingReason.POISONED.value)
        return {run.pk: sorted(reasons.get(run.pk, ())) for run in runs}

    def orphans(self, now: datetime) -> RunQuerySet:
        """Return the live runs without an owner at `now`: each needs a hint, or an end.

        Owned is: running with a live lease; pending with a due time to come, a run
        ahead of it, or a hint within its grace; waiting for an approval, or not too
        long for an answer whether its calls took effect; or poisoned.
        """
        pending = Q(pk__in=self.ready(now).values("pk"))
        lost = Q(status=RunStatus.RUNNING, lease_expires_at__lt=now)
        waiting = Q(status=RunStatus.WAITING, poisoned_at=None) & ~Exists(_calls_in(ToolCallStatus.WAITING))
        doubted = Exists(_calls_in(ToolCallStatus.EFFECT_UNVERIFIED))
        unhinted = _unhinted(now) | (lost & _HINT_IS_STALE)
        return self.filter(((pending | lost) & unhinted) | (waiting & (~doubted | Exists(_last_event(now)))))

    def to_settle(self, now: datetime) -> RunQuerySet:
        """Return the orphans that no worker may drive on: they wait for nothing, or have cost too many of them."""
        # Either status is named, for an index to find the rows by.
        return self.orphans(now).filter(_beyond_workers(), status__in=(RunStatus.WAITING, RunStatus.RUNNING))

    def to_hint(self, now: datetime) -> RunQuerySet:
        """Return the other orphans; those whose hint failed come last, in the order in which it was tried."""
        due = self.orphans(now).filter(status__in=(RunStatus.PENDING, RunStatus.RUNNING)).exclude(_beyond_workers())
        return due.order_by(F("hint_failed_at").asc(nulls_first=True), "pk")

    def ahead_of(self, run: Run) -> RunQuerySet:
        """Return the live runs that `run` waits for in its thread's queue, first one first."""
        if not run.queued:
            return self.none()
        ahead = self.live().filter(thread=run.thread_id, queued=True, number__lt=run.number)
        return ahead.order_by("number")


def _ahead() -> models.QuerySet[Run]:
    return Run.objects.filter(
        thread=OuterRef("thread"), queued=True, status__in=LIVE_RUN_STATUSES, number__lt=OuterRef("number")
    )


def _calls_in(status: ToolCallStatus) -> models.QuerySet[ToolCall]:
    return ToolCall.objects.filter(run=OuterRef("pk"), status=status)


def _last_event(now: datetime) -> models.QuerySet[Record]:
    """Return the last event of a run's log, if it is older than an approval may get."""
    deadline = now - timedelta(days=get_settings().approval_days)
    return Record.objects.filter(stream=OuterRef("stream"), seq=OuterRef("next_seq") - 1, created_at__lt=deadline)


def _beyond_workers() -> Q:
    most = get_settings().poison_after
    poison = Q(lost_leases__gte=most) | Q(alone=True, lost_leases__gte=most - 1)
    return Q(status=RunStatus.WAITING) | (Q(status=RunStatus.RUNNING) & poison)


# A hint that went out before the lease ran out told nobody that it would.
_HINT_IS_STALE = Q(dispatched_at__lt=F("lease_expires_at"))


def _unhinted(now: datetime) -> Q:
    """Whether no hint is outstanding: the wait after the n-th hint is 2**n graces."""
    grace = timedelta(seconds=get_settings().hint_grace_seconds)
    outdated = Q()
    for sent in range(MAX_BACKOFF + 1):
        count = Q(dispatch_count=sent) if sent < MAX_BACKOFF else Q(dispatch_count__gte=sent)
        outdated |= count & Q(dispatched_at__lt=now - grace * 2 ** max(sent - 1, 0))
    return Q(dispatched_at=None) | outdated


class Run(models.Model):
    """One durable piece of agent work; its row is the queue entry, the lock and the allocator of `seq`."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    # No index of its own: that of its number begins with it.
    thread = models.ForeignKey(
        "agentcore.Thread", on_delete=models.CASCADE, related_name="runs", db_index=False, verbose_name=_("thread")
    )
    stream = models.OneToOneField(
        "agentcore_streams.Stream", on_delete=models.PROTECT, related_name="+", verbose_name=_("stream")
    )
    number = models.PositiveIntegerField(_("number"))
    agent = models.CharField(_("agent"), max_length=64)
    agent_version = models.CharField(_("agent version"), max_length=32, blank=True)
    # For whom it runs; an audit row outlives the account.
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="agentcore_runs",
        verbose_name=_("user"),
    )
    # Who asked for it, by name: a run of the system's is told from one whose person was deleted.
    started_by = models.CharField(_("started by"), max_length=LONGEST_NAME, blank=True)
    prompt = models.ForeignKey(
        "agentcore.Message",
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        verbose_name=_("prompt"),
    )
    retry_of = models.ForeignKey(
        "self",
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="retries",
        db_index=False,  # see `Meta.indexes`: hardly any run has one
        verbose_name=_("retry of"),
    )
    key = models.CharField(_("key"), max_length=200, blank=True)
    request_digest = models.CharField(max_length=64, blank=True)
    metadata = models.JSONField(_("metadata"), default=dict, blank=True)

    status = models.CharField(_("status"), max_length=10, choices=choices(RunStatus), default=RunStatus.PENDING)
    queued = models.BooleanField(_("waits for its turn in the thread"), default=True)
    attempt = models.PositiveIntegerField(_("attempt"), default=0)
    worker = models.CharField(_("worker"), max_length=100, blank=True)
    lease_expires_at = models.DateTimeField(_("lease expires at"), null=True, blank=True)
    lost_leases = models.PositiveSmallIntegerField(_("lost leases"), default=0)
    # Whether its worker drives nothing else; and, of a run nobody drives, that its next worker must not either.
    alone = models.BooleanField(_("driven alone"), default=False)
    poisoned_at = models.DateTimeField(_("poisoned at"), null=True, blank=True)
    available_at = models.DateTimeField(_("available at"), null=True, blank=True)
    # Since when every worker that looked at it had another version of its agent; a claim clears it.
    version_missing_since = models.DateTimeField(_("version missing since"), null=True, blank=True)
    dispatched_at = models.DateTimeField(_("dispatched at"), null=True, blank=True)
    dispatch_count = models.PositiveSmallIntegerField(default=0)
    # When the sweep could not send a hint: until one goes out or the run is claimed, the others have their turn first.
    hint_failed_at = models.DateTimeField(_("hint failed at"), null=True, blank=True)
    cancel_requested_at = models.DateTimeField(_("cancel requested at"), null=True, blank=True)
    cancel_reason = models.CharField(_("cancel reason"), max_length=500, blank=True)

    next_seq = models.PositiveBigIntegerField(default=0)
    order = models.PositiveIntegerField(_("turn"))
    next_step_order = models.PositiveIntegerField(default=1)

    # Why the answer that ended it ended; see `finish`.
    finish_reason = models.CharField(_("finish reason"), max_length=30, blank=True)
    error_code = models.CharField(_("error code"), max_length=64, blank=True)
    # For whoever sees the run; what only operators may read stands in the detail.
    error_message = models.TextField(_("error message"), blank=True)
    error_detail = models.TextField(_("error detail"), blank=True)
    # How many seconds after its end there is a point in trying again, where a provider has said so.
    retry_after = models.FloatField(_("retry after"), null=True, blank=True)
    output = models.JSONField(_("output"), null=True, blank=True)
    usage = models.JSONField(_("usage"), default=dict, blank=True)
    # What an operator should know that is no error: a sentence by its code.
    notes = models.JSONField(_("notes"), default=dict, blank=True)
    created_at = models.DateTimeField(_("created at"), db_default=Now())
    started_at = models.DateTimeField(_("started at"), null=True, blank=True)
    # How long it has been running in all, and since when it is: what it waits for does not count.
    running_seconds = models.FloatField(_("seconds running"), default=0.0)
    running_since = models.DateTimeField(_("running since"), null=True, blank=True)
    finished_at = models.DateTimeField(_("finished at"), null=True, blank=True)

    objects = RunQuerySet.as_manager()

    class Meta:
        verbose_name = _("run")
        verbose_name_plural = _("runs")
        permissions = [("cancel_any_run", _("Can cancel every run"))]
        constraints = [
            models.UniqueConstraint(fields=["thread", "number"], name="agentcore_run_number"),
            models.UniqueConstraint(fields=["thread", "agent", "key"], condition=~Q(key=""), name="agentcore_run_key"),
            only("status", RunStatus, "agentcore_run_status"),
            models.CheckConstraint(
                condition=Q(status__in=TERMINAL_RUN_STATUSES, finished_at__isnull=False)
                | Q(status__in=LIVE_RUN_STATUSES, finished_at=None),
                name="agentcore_run_finished",
            ),
            models.CheckConstraint(
                condition=~Q(status=RunStatus.RUNNING) | Q(lease_expires_at__isnull=False),
                name="agentcore_run_leased",
            ),
        ]
        indexes = [
            models.Index(
                fields=["status", "available_at"], condition=Q(status=RunStatus.PENDING), name="agentcore_run_pending"
            ),
            # Not of the lease: a commit that no index has to learn of is a fraction of the work.
            models.Index(fields=["id"], condition=Q(status=RunStatus.RUNNING), name="agentcore_run_running"),
            models.Index(fields=["id"], condition=Q(status=RunStatus.WAITING), name="agentcore_run_waiting"),
            models.Index(
                fields=["thread", "number"], condition=Q(status__in=LIVE_RUN_STATUSES), name="agentcore_run_live"
            ),
            models.Index(fields=["retry_of"], condition=Q(retry_of__isnull=False), name="agentcore_run_retries"),
            models.Index(fields=["-created_at"], name="agentcore_run_new"),
            models.Index(fields=["status", "-created_at"], name="agentcore_run_status_new"),
            models.Index(fields=["agent", "-created_at"], name="agentcore_run_agent_new"),
        ]

    def __str__(self) -> str:
        return f"{self.agent} #{self.number}"

    @property
    def terminal(self) -> bool:
        """Whether the run has ended."""
        return RunStatus(self.status).terminal

    @property
    def hint_is_stale(self) -> bool:
        """Whether the last hint went out before the run's lease ran out, and so was not about that."""
        return bool(self.dispatched_at and self.lease_expires_at and self.dispatched_at < self.lease_expires_at)

    @property
    def used(self) -> Usage:
        """The tokens of all steps so far."""
        return Usage.from_json(self.usage)

    def all_notes(self) -> dict[str, str]:
        """Return what an operator should know of the run that is no error: a sentence by its code."""
        found = dict(self.notes)
        if self.version_missing_since is not None and not self.terminal:
            found["agent_missing"] = AGENT_MISSING.format(agent=self.agent, version=self.agent_version or "-")
        return found

    def shown_notes(self) -> dict[str, str]:
        """Return what of its notes concerns whoever asked for the run, in words for them; the rest is an operator's."""
        return {code: SHOWN_NOTES[code] for code in self.all_notes() if code in SHOWN_NOTES}

    def waiting_reasons(self) -> list[str]:
        """Return why the run waits, derived from its open rows (one query)."""
        return Run.objects.waiting_reasons_of([self])[self.pk]
