"""A run's log as a page shows it: a bounded piece, with every gap said."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils.translation import gettext as _

from ..models import Run
from ..streams import log
from ..values import events
from . import show

PAGE = 200
HEAD = ("v", "seq", "type", "ts")


@dataclass(frozen=True)
class Row:
    """One event, or (with `gap`) the place where events are missing."""

    gap: str = ""
    seq: int = 0
    at: datetime | None = None
    time: str = ""
    since: str = ""
    type: str = ""
    summary: str = ""
    payload: str = ""


@dataclass(frozen=True)
class Page:
    """Some events in order; the positions to read other pages after, None where there is no such page."""

    rows: list[Row]
    total: int
    first: int | None
    previous: int | None
    next: int | None
    last: int | None


def page(run: Run, after: int) -> Page:
    """Return the events after a position; reads one piece of the log, however long the log is."""
    after = max(-1, min(after, run.next_seq))
    entries = log.read(run.stream_id, after, PAGE)
    rows: list[Row] = []
    expected, before = after + 1, None
    for entry in entries:
        if entry.seq != expected:
            rows.append(_gap(expected, entry.seq - 1))
        row = _row(entry, before, run.created_at)
        rows.append(row)
        expected, before = entry.seq + 1, row.at or before
    full = len(entries) == PAGE
    if not full and expected < run.next_seq:
        rows.append(_gap(expected, run.next_seq - 1))
    final = max(run.next_seq - PAGE, 0) - 1
    more = full and expected < run.next_seq
    return Page(
        rows=rows,
        total=run.next_seq,
        first=-1 if after > -1 else None,
        previous=max(after - PAGE, -1) if after > -1 else None,
        next=expected - 1 if more else None,
        last=final if more and final > after else None,
    )


def position(text: str) -> int:
    """Read the position an address names; anything else is the beginning."""
    try:
        return int(text[:18])
    except ValueError:
        return -1


def _row(entry: log.Entry, before: datetime | None, day_of: datetime) -> Row:
    try:
        event: dict[str, Any] = events.decode(entry.data)
        at = datetime.fromisoformat(event["ts"])
        payload = {key: value for key, value in event.items() if key not in HEAD}
        kind = str(event["type"])
    except (ValueError, KeyError, TypeError, AttributeError):
        # The log shows what is stored, also where that is not an event.
        return Row(seq=entry.seq, type=_("unreadable"), payload=show.brief(repr(entry.data)))
    text = show.brief_value(payload)
    return Row(
        seq=entry.seq,
        at=at,
        time=show.clock(at, day_of),
        since="" if before is None else f"+{max((at - before).total_seconds(), 0):.3f} s",
        type=show.visible(kind, keep=""),
        summary=show.preview(" ".join(text.split())[2:-2] if payload else ""),
        payload=text if payload else "",
    )


def _gap(first: int, last: int) -> Row:
    return Row(gap=_("Missing: events %(first)d to %(last)d.") % {"first": first, "last": last})
