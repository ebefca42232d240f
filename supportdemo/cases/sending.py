"""Sending a customer's message: quota first, then message and run in one transaction."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from django.db import transaction

from agentcore import Part, TextPart
from agentcore.models import Run
from supportdemo.accounts.limits import RateLimit
from supportdemo.problems import Problem

from .agents import support
from .billing import settle
from .forms import MessageIn
from .models import Case

SENDS = RateLimit("send", times=int(os.environ.get("DEMO_SENDS_PER_MINUTE") or 10), seconds=60)


@dataclass(frozen=True)
class Outcome:
    """The run of a message, and whether this request made it."""

    run: Run
    created: bool


def send(case: Case, user: Any, message: MessageIn) -> Outcome:
    """Send a message to the agent; the same key again finds its run and costs nothing.

    Raises `Problem` for a refusal and agentcore's `Conflict` for a key used for
    another message. Either leaves nothing behind: no message, no run, no count.
    """
    parts: list[Part] = [TextPart(message.text), *_files(case, message)]
    metadata = {"files": [str(file_id) for file_id in message.files]}
    subject = str(user.pk)
    with transaction.atomic():
        # Count first, look second: of equal requests at once, the later ones see the run of the first.
        wait = SENDS.take(subject)
        known = Run.objects.filter(thread_id=case.thread_id, agent=support.definition.name, key=message.key).exists()
        if known and wait is None:
            SENDS.give_back(subject)
        elif wait is not None and not known:
            raise too_many(wait)
        run = support.runs.send(case.thread, parts, user=user, key=message.key, metadata=metadata)
    settle(case)
    return Outcome(run, created=not known)


def too_many(wait: int) -> Problem:
    """Return the refusal of a message that is one too many."""
    detail = f"You have sent many messages. Try again in {wait} seconds."
    return Problem(429, "send_limit", detail, retry_after=wait)


def _files(case: Case, message: MessageIn) -> list[Part]:
    """Return the named attachments as parts; one of another case is as unknown as one that never was."""
    found = {attachment.pk: attachment for attachment in case.attachments.filter(pk__in=message.files)}
    if missing := [file_id for file_id in message.files if file_id not in found]:
        raise Problem(400, "unknown_file", f"There is no file {missing[0]} in this case. Attach it again.")
    return [found[file_id].as_part() for file_id in message.files]
