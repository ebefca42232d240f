"""How stored values look on a page: exact, readable, and nothing invisible.

What comes out is plain text that templates escape; only `badge` and `link` are
markup, made by `format_html`.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from django.contrib.admin import AdminSite
from django.db.models import Model
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext as _

from ..values import jsontext

LONGEST = 20_000  # of one value on a page that shows many; a decision always shows everything


def visible(text: str, keep: str = "\n\t") -> str:
    """Return `text` with every control, bidirectional, zero-width or otherwise invisible character as an escape."""
    return jsontext.visible(text, keep)


def pretty(text: str) -> str:
    """Return stored JSON text indented for reading; it still says exactly what the stored text says."""
    try:
        value = json.loads(text)
    except ValueError:
        return visible(text)
    return pretty_value(value)


def pretty_value(value: Any) -> str:
    """Return plain data as indented JSON, with invisible characters as JSON's own escapes, so it can be read back."""
    return _seen(json.dumps(value, ensure_ascii=False, indent=2))


def _seen(text: str) -> str:
    return "".join(char if char == "\n" or jsontext.is_seen(char) else json.dumps(char)[1:-1] for char in text)


def brief(text: str, limit: int = LONGEST) -> str:
    """Return the beginning of a text as it is shown; nothing is made of what is not."""
    shown = visible(text[:limit])
    return shown if len(text) <= limit else shown + _more(len(text) - limit)


def brief_value(value: Any, limit: int = LONGEST) -> str:
    """Return the beginning of plain data as indented JSON; nothing is made of what is not shown."""
    pieces: list[str] = []
    size = 0
    for piece in json.JSONEncoder(ensure_ascii=False, indent=2).iterencode(value):
        pieces.append(piece[: limit + 1])
        size += len(piece)
        if size > limit:
            break
    text = "".join(pieces)[:limit]
    shown = _seen(text)
    return shown if size <= limit else shown + "\n" + _("… and more")


def brief_json(text: str, limit: int = LONGEST) -> str:
    """Return the beginning of stored JSON text, indented unless it is so long that reading it takes its time."""
    if len(text) > limit * 50:
        return brief(text, limit)
    try:
        return brief_value(json.loads(text), limit)
    except ValueError:
        return brief(text, limit)


def _more(count: int) -> str:
    return "\n" + _("… %(count)d more characters") % {"count": count}


def shortened(text: str, limit: int = LONGEST) -> str:
    """Return `text`, cut with a note of how much is missing."""
    if len(text) <= limit:
        return text
    return text[:limit] + _more(len(text) - limit)


def preview(text: str, limit: int = 90) -> str:
    """Return the beginning of a value on one line."""
    line = visible(text[: limit * 4], keep="")
    return line if len(line) <= limit else line[:limit] + "…"


def badge(status: str, label: str = "") -> str:
    """Return a status as a coloured word; the word says it all, the colour only repeats it."""
    return format_html('<span class="ac-badge ac-{}">{}</span>', status, label or status.replace("_", " "))


def took(start: datetime | None, end: datetime | None) -> str:
    """Return how long something took, or has taken until now."""
    if start is None:
        return "–"
    return seconds(((end or timezone.now()) - start).total_seconds())


def clock(moment: datetime, day_of: datetime | None = None) -> str:
    """Return a time to the millisecond, with its date where that is another day than `day_of`."""
    local = timezone.localtime(moment)
    same_day = day_of is not None and timezone.localtime(day_of).date() == local.date()
    return local.strftime("%H:%M:%S" if same_day else "%Y-%m-%d %H:%M:%S") + f".{local.microsecond // 1000:03d}"


def seconds(value: float) -> str:
    """Return a span of time in the two units a reader needs."""
    value = max(value, 0)
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"


def address(site: AdminSite, obj: type[Model] | Model, view: str, *args: Any) -> str:
    """Return the address of a model's admin page on this site; empty where the site does not have the model."""
    meta = obj._meta
    if not site.is_registered(obj if isinstance(obj, type) else type(obj)):
        return ""
    return reverse(f"admin:{meta.app_label}_{meta.model_name}_{view}", args=args, current_app=site.name)


def link(url: str, text: str) -> str:
    """Return a link, or the text alone where there is nowhere to go."""
    return format_html('<a href="{}">{}</a>', url, text) if url else text
