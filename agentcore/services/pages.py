"""What one page of a thread has: so many messages, and no more bytes than `PAGE_LIMIT`, with their runs or without."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db.models import Case, Exists, F, Func, IntegerField, OuterRef, Q, QuerySet, Sum, TextField, Value, When
from django.db.models.functions import Cast, Coalesce

from ..conf import get_settings
from ..exceptions import Invalid
from ..models import Approval, Message, Run, Thread, ToolCall

MOST_MESSAGES = 200
MOST_RUNS = 200
# What is sent beside the texts that are measured: ids, names, times.
AROUND_MESSAGE, AROUND_RUN, AROUND_CALL, AROUND_APPROVAL = 500, 1000, 200, 800


@dataclass(frozen=True)
class Window:
    """The messages and the runs that one page has, by id; `before` asks for the next older page."""

    messages: list[UUID]
    runs: set[UUID]
    before: str | None


@dataclass(frozen=True)
class _Runs:
    """The sizes of runs in bytes, and the turns of those that have no message."""

    sizes: Mapping[UUID, int] = field(default_factory=dict)
    silent: Mapping[UUID, int] = field(default_factory=dict)

    def due(self, speaker: UUID | None, turn: int) -> set[UUID]:
        """Return the runs to show with a message: its own, and those without a message from its turn on."""
        found = {run for run, at in self.silent.items() if at >= turn}
        return found | {speaker} if speaker is not None and speaker in self.sizes else found


def window(thread: Thread, before: str | None, limit: int, *, with_runs: bool) -> Window:
    """Return the page before a place: the newest messages that fit, and at least one.

    A run is on each page that has a message of it; a run without messages, on the page
    of its turn. Raises `Invalid` where `before` is no place.
    """
    limit = max(1, min(limit, MOST_MESSAGES))
    rows = _before(Message.objects.filter(thread=thread), before)
    said, told = _bytes("content"), _bytes("tool_call__result") + _bytes("tool_call__error")
    edited = _bytes("tool_call__arguments") + _bytes("tool_call__edit__by") + _bytes("tool_call__edit__reason")
    ran = Case(When(tool_call__edit__isnull=False, then=edited), default=Value(0))
    size = said + said + told + ran + AROUND_MESSAGE  # what it says is sent as parts and as text
    newest = rows.order_by("-order", "-step_order").values_list("pk", "order", "step_order", "run_id", size)
    # Sizes only: what the page does not show is not read.
    sized = list(newest[: limit + 1])
    reaches_start = len(sized) <= limit
    runs = (
        _runs(thread, before, 0 if reaches_start else sized[-1][1], {row[3] for row in sized}) if with_runs else _Runs()
    )
    room, shown, along = get_settings().page_limit, list[tuple[UUID, str]](), set[UUID]()
    for pk, turn, step, speaker, weight in sized[:limit]:
        due = runs.due(speaker, turn) - along
        room -= weight + sum(runs.sizes[run] for run in due)
        if room < 0 and shown:
            break
        shown.append((pk, f"{turn}.{step}"))
        along |= due
    if len(shown) < len(sized):
        return Window([pk for pk, _ in shown], along, shown[-1][1])
    return Window([pk for pk, _ in shown], along | set(runs.silent), None)


def read_place(before: str) -> tuple[int, int]:
    """Return the turn and the step of a place; raises `Invalid` for what is none."""
    order, _, step_order = before.partition(".")
    if not (order.isdecimal() and step_order.isdecimal() and len(before) < 20):
        raise Invalid("`before` must be a place from an earlier page, such as 12.0.")
    return int(order), int(step_order)


def _before(rows: QuerySet[Message], before: str | None) -> QuerySet[Message]:
    if before is None:
        return rows
    order, step_order = read_place(before)
    return rows.filter(Q(order__lt=order) | Q(order=order, step_order__lt=step_order))


def _runs(thread: Thread, before: str | None, first_turn: int, speakers: Iterable[UUID | None]) -> _Runs:
    """Measure the runs that the page may show: those of its messages, and the newest `MOST_RUNS` without a message."""
    silent = Run.objects.filter(~Exists(Message.objects.filter(run=OuterRef("pk"))), thread=thread)
    silent = silent.filter(order__gte=first_turn)
    if before is not None:
        turn, step = read_place(before)
        silent = silent.filter(order__lt=turn if step == 0 else turn + 1)
    turns = dict(silent.order_by("-number").values_list("pk", "order")[:MOST_RUNS])
    listed = [*turns, *(run for run in speakers if run is not None)]
    own = _bytes("output") + _bytes("usage") + _bytes("notes") + _bytes("error_message") + AROUND_RUN
    sizes = dict(Run.objects.filter(pk__in=listed).values_list("pk", own))
    approval = _bytes("arguments") + _bytes("edited_arguments") + _bytes("reason") + AROUND_APPROVAL
    for rows, weight in ((Approval.objects, approval), (ToolCall.objects, _bytes("error") + AROUND_CALL)):
        found = rows.filter(run__in=listed).values("run").annotate(weight=Sum(weight)).order_by()
        for run, more in found.values_list("run", "weight"):
            sizes[run] = sizes.get(run, 0) + more
    return _Runs(sizes, {run: turn for run, turn in turns.items() if run in sizes})


class _OctetLength(Func):
    """The bytes of a text; SQLite's own function of this name is newer than some of the versions that are supported."""

    function = "OCTET_LENGTH"
    output_field = IntegerField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="LENGTH(CAST(%(expressions)s AS BLOB))", **context)


def _bytes(name: str) -> Any:
    return Coalesce(_OctetLength(Cast(F(name), TextField())), Value(0))
