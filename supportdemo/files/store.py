"""Keep an uploaded file: check it, read it, store bytes and row; and give back those bytes or none."""

from __future__ import annotations

import contextlib
import hashlib
import logging
from typing import Any

from django.core.files.base import ContentFile
from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.db.models import F

from supportdemo.cases.models import Case
from supportdemo.problems import Problem

from .extract import extract
from .models import Attachment, random_name
from .names import clean_name
from .sniff import MAX_BYTES, sniff

logger = logging.getLogger("supportdemo.files")

MAX_FILES = 20


def store(case: Case, owner: Any, upload: UploadedFile) -> Attachment:
    """Store an uploaded file in a case; raises `Problem` for what is refused, and keeps nothing of it."""
    name = clean_name(upload.name or "")
    _require_room(case)  # before the work
    # One byte over the limit is enough to refuse; the rest is never read into memory.
    data = upload.read(MAX_BYTES + 1)
    sniffed = sniff(name, data)
    found = extract(sniffed, data)
    attachment = Attachment(
        owner=owner,
        case=case,
        original_name=name,
        media_type=sniffed.media_type,
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        text=found.text,
        truncated=found.truncated,
        status=found.status,
        error=found.error,
    )
    with transaction.atomic():
        # Files sent at once would all find room for one: they are counted one after another.
        # An UPDATE locks the case's row on every database: whoever comes beside it counts after it.
        Case.objects.filter(pk=case.pk).update(priority=F("priority"))
        _require_room(case)
        _keep(attachment, data)
        try:
            attachment.save(force_insert=True)
        except BaseException:
            attachment.file.delete(save=False)
            raise
    return attachment


def read(attachment: Attachment) -> bytes:
    """Return exactly what was uploaded; raises `Problem` where the store has lost it, or has something else."""
    try:
        with attachment.file.open("rb") as file:
            data: bytes = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        _log("file_missing", attachment)
        raise Problem(410, "file_missing", "The file is not in the store any more. Ask for it to be sent again.") from (
            error
        )
    except OSError as error:
        _log("file_unreadable", attachment)
        raise _unavailable() from error
    if hashlib.sha256(data).hexdigest() != attachment.sha256:
        _log("file_damaged", attachment)
        raise Problem(410, "file_damaged", "The stored file is not the one that was sent. Ask for it to be sent again.")
    return data


def _require_room(case: Case) -> None:
    if case.attachments.count() >= MAX_FILES:
        raise Problem(409, "too_many_files", f"This case has {MAX_FILES} files already. Open a new case for more.")


def _keep(attachment: Attachment, data: bytes) -> None:
    """Store the bytes under a name of their own; a store that takes no more keeps no part of them."""
    storage, name = attachment.file.storage, random_name(attachment, "")
    try:
        attachment.file.name = storage.save(name, ContentFile(data))
    except OSError as error:
        with contextlib.suppress(OSError):
            storage.delete(name)
        _log("file_not_stored", attachment)
        raise _unavailable() from error


def _unavailable() -> Problem:
    detail = "Files cannot be stored or read now. Nothing was kept; try again in a minute."
    return Problem(503, "file_store", detail, retry_after=60)


def _log(action: str, attachment: Attachment) -> None:
    logger.error("%s: attachment %s", action, attachment.pk, extra={"action": action}, exc_info=True)
