"""Keep an uploaded file: check it, read it, store bytes and row."""

from __future__ import annotations

import hashlib
from typing import Any

from django.core.files.base import ContentFile
from django.core.files.uploadedfile import UploadedFile

from supportdemo.cases.models import Case
from supportdemo.problems import Problem

from .extract import extract
from .models import Attachment
from .names import clean_name
from .sniff import MAX_BYTES, sniff

MAX_FILES = 20


def store(case: Case, owner: Any, upload: UploadedFile) -> Attachment:
    """Store an uploaded file in a case; raises `Problem` for what is refused, and keeps nothing of it."""
    name = clean_name(upload.name or "")
    if case.attachments.count() >= MAX_FILES:
        raise Problem(409, "too_many_files", f"This case has {MAX_FILES} files already. Open a new case for more.")
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
    attachment.file.save(name, ContentFile(data), save=False)
    try:
        attachment.save(force_insert=True)
    except BaseException:
        attachment.file.delete(save=False)
        raise
    return attachment
