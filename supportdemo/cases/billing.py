"""What runs cost: computed from their recorded usage, booked once when they have ended."""

from __future__ import annotations

from decimal import Decimal

from agentcore.models import Run

from .models import Case, UsageCharge

CENTS_PER_MILLION_INPUT = Decimal(15)
CENTS_PER_MILLION_OUTPUT = Decimal(60)


def quote(run: Run) -> UsageCharge:
    """Return the charge for a run as it stands, unsaved."""
    used = run.used
    cents = (used.input_tokens * CENTS_PER_MILLION_INPUT + used.output_tokens * CENTS_PER_MILLION_OUTPUT) / 1_000_000
    return UsageCharge(run=run, tokens=used.total_tokens, cents=cents.quantize(Decimal("0.0001")))


def settle(case: Case) -> None:
    """Book the ended runs of a case that are not in the ledger yet; repeating it books nothing twice."""
    open_runs = Run.objects.filter(thread_id=case.thread_id, finished_at__isnull=False, charge=None)
    UsageCharge.objects.bulk_create([quote(run) for run in open_runs], ignore_conflicts=True)


def charges(case: Case) -> list[UsageCharge]:
    """Return the charge of each run of a case, newest first: as booked, or as it stands."""
    runs = Run.objects.filter(thread_id=case.thread_id).select_related("charge").order_by("-number")
    return [getattr(run, "charge", None) or quote(run) for run in runs]
