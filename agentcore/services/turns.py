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

    A page has at most `limit` messages, and with its runs at most `PAGE_LIMIT` bytes unless it has a
    single message. All messages of a run that is shown as ended are on this page or an older one, for
    the runs are read first. Of the runs without a message only the newest `MOST_RUNS` are returned.
    Raises `NotFound` for a thread `user` does not see, and `Invalid` for a `before` that is no place.
    """
    found = threads.get(thread, user=user)
    runs = _runs(pages.window(found, before, limit, with_runs=True).runs)
    page = pages.window(found, before, limit, with_runs=True)
    return TurnPage(list(Message.objects.filter(pk__in=page.messages).in_order()), runs, page.before)


def _runs(of: Iterable[UUID]) -> list[Run]:
    return list(Run.objects.filter(pk__in=of).select_related("thread").order_by("-number"))


alist = twin(list_)
