"""A page of a conversation: its newest turns, what was said in them and every run they had."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet

from ..models import Message, Run, Thread
from . import messages, threads
from .twins import twin

MOST_MESSAGES = 200
MOST_RUNS = 200


@dataclass(frozen=True)
class TurnPage:
    """Messages, oldest first, and the runs of their turns, newest first; `before` asks for the next older page."""

    messages: list[Message]
    runs: list[Run]
    before: str | None


def list_(thread: Thread | UUID | str, *, user: Any, before: str | None = None, limit: int = 50) -> TurnPage:
    """Return the newest messages before a place, and the runs of their turns, those that said nothing too.

    A run that is shown as ended has all its messages here, or in an older page: the
    runs are read before them. Of turns with very many runs only the newest
    `MOST_RUNS` are returned.
    """
    found = threads.get(thread.pk if isinstance(thread, Thread) else thread, user=user)
    limit = max(1, min(limit, MOST_MESSAGES))
    older = messages.before_place(Message.objects.filter(thread=found), before)
    places = list(older.order_by("-order", "-step_order").values_list("order", "step_order")[: limit + 1])
    start = places[-1] if len(places) > limit else (0, 0)
    # Turns without a message have runs too; those before the first message shown belong to the page that ends there.
    first_turn = places[limit - 1][0] if len(places) > limit else 0
    runs = list(_runs(found, first_turn, before))
    said = list(older.filter(_from(start)).order_by("order", "step_order"))
    page = said[-limit:]
    return TurnPage(page, runs, messages.place_of(page[0]) if len(said) > limit else None)


def _runs(thread: Thread, first_turn: int, before: str | None) -> QuerySet[Run]:
    runs = Run.objects.filter(thread=thread, order__gte=first_turn).select_related("thread")
    if before is not None:
        turn, step = messages.read_place(before)
        runs = runs.filter(order__lt=turn if step == 0 else turn + 1)
    return runs.order_by("-number")[:MOST_RUNS]


def _from(place: tuple[int, int]) -> Q:
    order, step_order = place
    return Q(order__gt=order) | Q(order=order, step_order__gte=step_order)


alist = twin(list_)
