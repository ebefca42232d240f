"""What a run's rows say, loaded at once: all that the next decision depends on."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from ..context import ContextBlock
from ..models import Run, Step, ToolCall
from ..states import BLOCKED_CALL_STATUSES, OPEN_CALL_STATUSES, StepKind, StepStatus, ToolCallStatus
from ..streams.dialect import DbNow

OUTPUT_INVALID = "output_invalid"
WORKER_LOST = "worker_lost"


@dataclass(frozen=True)
class Snapshot:
    """A run between two steps."""

    run: Run
    calls: tuple[ToolCall, ...]
    last_model_step: Step | None
    open_step: int | None
    failed_tries: int
    output_faults: int
    steps_finished: int
    seconds_since_start: float
    context: tuple[ContextBlock, ...] | None

    @property
    def next_step(self) -> int:
        """The number of the step to run next; a step that failed is tried again under its own number."""
        return self.steps_finished + 1

    @property
    def runnable(self) -> tuple[ToolCall, ...]:
        """The calls that may start now."""
        return tuple(call for call in self.calls if call.status == ToolCallStatus.PENDING)

    @property
    def blocked(self) -> tuple[ToolCall, ...]:
        """The calls that wait for a person."""
        return tuple(call for call in self.calls if call.status in BLOCKED_CALL_STATUSES)

    @property
    def feedback(self) -> str:
        """What was wrong with the structured output of the last step, for the model."""
        step = self.last_model_step
        return step.error_message if step and step.error_code == OUTPUT_INVALID else ""


def load(run_id: UUID) -> Snapshot:
    """Load a run and its steps; user code is never replayed, rows are read."""
    run = Run.objects.select_related("user", "thread", "prompt").get(pk=run_id)
    now = Run.objects.values_list(DbNow(), flat=True).get(pk=run_id)
    steps: list[Step] = list(Step.objects.filter(run=run).order_by("number", "started_at", "pk"))
    finished = [step for step in steps if step.status == StepStatus.FINISHED]
    models = [step for step in finished if step.kind == StepKind.MODEL]
    return Snapshot(
        run=run,
        calls=tuple(ToolCall.objects.filter(run=run, status__in=OPEN_CALL_STATUSES).order_by("step_id", "position")),
        last_model_step=models[-1] if models else None,
        open_step=next((step.number for step in steps if step.status == StepStatus.STARTED), None),
        failed_tries=sum(
            1
            for step in steps
            if step.status == StepStatus.FAILED
            and step.kind == StepKind.MODEL
            and step.number > len(finished)
            and step.error_code != WORKER_LOST
        ),
        output_faults=sum(1 for step in models if step.error_code == OUTPUT_INVALID),
        steps_finished=len(finished),
        seconds_since_start=(now - run.started_at).total_seconds() if run.started_at else 0.0,
        context=_context(models),
    )


def _context(models: list[Step]) -> tuple[ContextBlock, ...] | None:
    """Return the blocks the first model step was given; later steps get the same, never a new retrieval."""
    return tuple(ContextBlock.from_json(block) for block in models[0].context) if models else None
