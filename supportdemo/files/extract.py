"""The text of an attachment, read within limits; PDF files in a process of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from .models import Attachment
from .sniff import PDF, Sniffed

MAX_CHARACTERS = 24_000
MAX_PAGES = 50
WALL_SECONDS = 20
READER = Path(__file__).with_name("pdf_reader.py")


@dataclass(frozen=True)
class Extracted:
    """What could be read, and why not where it could not."""

    status: str
    text: str = ""
    truncated: bool = False
    error: str = ""


def extract(sniffed: Sniffed, data: bytes) -> Extracted:
    """Return the text of an accepted file; what cannot be read is said, never raised."""
    if sniffed.text is not None:
        return _text(sniffed.text)
    if sniffed.media_type == PDF:
        return _pdf(data)
    return Extracted(Attachment.Status.PICTURE, error="It is a picture; no text is read in one.")


def _text(text: str, truncated: bool = False) -> Extracted:
    # A PDF can yield half of a surrogate pair, which no database stores.
    text = text.encode("utf-8", "replace").decode("utf-8").replace("\r\n", "\n").strip()
    truncated = truncated or len(text) > MAX_CHARACTERS
    return Extracted(Attachment.Status.EXTRACTED, text[:MAX_CHARACTERS], truncated)


def _pdf(data: bytes) -> Extracted:
    # Hostile files make parsers loop and grow: the reader limits itself before it looks at a byte, and is killed.
    command = [sys.executable, "-I", "-B", str(READER), str(MAX_PAGES), str(MAX_CHARACTERS)]
    try:
        done = subprocess.run(command, input=data, capture_output=True, timeout=WALL_SECONDS, check=True)
        answer = json.loads(done.stdout)
    except (subprocess.SubprocessError, ValueError):
        return Extracted(Attachment.Status.FAILED, error="The PDF could not be read; it may be damaged.")
    if answer["error"]:
        status = Attachment.Status.PICTURE if answer["scan"] else Attachment.Status.METADATA_ONLY
        return Extracted(status, error=answer["error"])
    return _text(answer["text"], answer["truncated"])
