"""A page of a conversation: what was said, and the runs that said it or said nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from ..models import Message, Run, Thread
from . import pages, threads
from .twins import twin


@dataclass(frozen=True)
class TurnPage:
    """Messages, oldest first, and their runs, newest first; `before` asks for the next older page."""

    messages: list[Message]
    runs: list[Run]
    before: str | None


def list_(thread: Thread | UUID | str, *, user: Any, before: str | None = None, limit: int = 50) -> TurnPage:
    """Return the newest messages before a place, and their runs, with those of their turns that said nothing.

    There are `limit` messages at most, and no more than `PAGE_LIMIT` bytes of them and of
    the runs where there are several. A run that is shown as ended has all its messages
    here, or in an older page: the runs are read before them. Of turns with very many
    runs that said nothing only the newest `MOST_RUNS` are returned. Raises `NotFound` for a thread `user` does not
    see, and `Invalid` for a `before` that no page has named.
    """
    found = threads.get(thread, user=user)
    runs = _runs(pages.window(found, before, limit, with_runs=True).runs)
    page = pages.window(found, before, limit, with_runs=True)
    return TurnPage(list(Message.objects.filter(pk__in=page.messages).in_order()), runs, page.before)


def _runs(of: Iterable[UUID]) -> list[Run]:
    return list(Run.objects.filter(pk__in=of).select_related("thread").order_by("-number"))


alist = twin(list_)
