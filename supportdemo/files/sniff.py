"""Which files are accepted, decided by their bytes and their name together."""

from __future__ import annotations

from dataclasses import dataclass

import filetype

from supportdemo.problems import Problem

from .names import suffix_of

MAX_BYTES = 2 * 1024 * 1024
PDF = "application/pdf"
TEXT_TYPES = {
    ".txt": "text/plain",
    ".log": "text/plain",
    ".md": "text/markdown",
    ".csv": "text/csv",
    ".json": "application/json",
}
BINARY_TYPES = {".pdf": PDF, ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}
ACCEPTED = (*TEXT_TYPES, *BINARY_TYPES)
# Tab, line feed, form feed and carriage return are all that text needs below the space.
NOT_IN_TEXT = frozenset(map(chr, (*range(9), 11, *range(14, 32), 127)))


@dataclass(frozen=True)
class Sniffed:
    """An accepted file: its type, and its text where the bytes are text."""

    media_type: str
    text: str | None


def sniff(name: str, data: bytes) -> Sniffed:
    """Return the type of an accepted file; raises `Problem` that says what is wrong."""
    if not data:
        raise Problem(400, "file_empty", f"{name} is empty. Choose a file with something in it.")
    if len(data) > MAX_BYTES:
        raise Problem(
            413, "file_too_large", f"{name} is larger than {MAX_BYTES // 1024 // 1024} MB. Send a smaller file."
        )
    suffix = suffix_of(name)
    if suffix not in ACCEPTED:
        raise Problem(415, "file_type", f"{name} is not accepted. Send one of {', '.join(ACCEPTED)}.")
    kind = filetype.guess(data)
    # Text may begin as a picture does, but not as a PDF: whether it is text is seen below.
    found, wanted = kind.mime if kind is not None else "", BINARY_TYPES.get(suffix)
    if found != wanted and (wanted or found == PDF):
        raise Problem(415, "file_mismatch", f"{name} is not what its name says. Send it under its true type.")
    if wanted:
        return Sniffed(wanted, None)
    text = _decode(data)
    if text is None:
        raise Problem(415, "file_not_text", f"{name} is not plain UTF-8 text. Save it as UTF-8 and send it again.")
    return Sniffed(TEXT_TYPES[suffix], text)


def _decode(data: bytes) -> str | None:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    # Bytes that only look like another type's magic ("BM…") are text all the same; control characters are not.
    return None if NOT_IN_TEXT.intersection(text) else text
