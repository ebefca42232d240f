"""I17: a log and a row each hold an answer, and the result of a call, once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .evidence import Dossier, Violation

NAMES = {"type", "call_id", "name"}
"""What a message may tell of a result that is stored elsewhere."""


def of_run(dossier: Dossier) -> Iterator[Violation]:
    """Look for second copies: in the messages of the run's log, in the thread's log and in the messages' rows.

    The first ones are the run's `message` and the message's row; of a result, `tool.result` and the call's row.
    """
    for event in dossier.events:
        if event.get("type") == "message":
            message = event.get("message") or {}
            at = f"message at {event.get('seq')}"
            if "text" in message:
                yield dossier.violates("I17", f"{at} holds its text beside its parts")
            if _tells(message):
                yield dossier.violates("I17", f"{at} holds what tool.result holds")
    for news in dossier.thread_events:
        placed = news.get("message") or {}
        if placed.get("run") == str(dossier.run.pk) and placed.keys() & {"parts", "text"}:
            at = f"thread.message at {news.get('seq')}"
            yield dossier.violates("I17", f"{at} holds what message {placed.get('id')} of the run's log holds")
    for row in dossier.messages:
        if _tells(row.content):
            yield dossier.violates("I17", f"message {row.pk} holds what the row of its call holds")


def _tells(message: Mapping[str, Any]) -> bool:
    """Whether a message has more of a result than the name of its call."""
    parts = [part for part in message.get("parts", ()) if isinstance(part, dict)]
    return any(part.get("type") == "tool-result" and part.keys() - NAMES for part in parts)
