"""File names as senders give them, made fit to be shown and sent back."""

from __future__ import annotations

import unicodedata

MAX_NAME = 120


def clean_name(name: str) -> str:
    """Return the last path component without invisible characters, shortened before its suffix."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    # Cc: control, Cf: format, which reorders or hides text; Cs: unpaired, Zl and Zp: line ends.
    kept = "".join(char for char in last if unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Zl", "Zp"})
    kept = kept.strip(" .") or "file"
    if len(kept) <= MAX_NAME:
        return kept
    stem, dot, suffix = kept.rpartition(".")
    if not dot or len(suffix) > 10:
        return kept[:MAX_NAME]
    return f"{stem[: MAX_NAME - len(suffix) - 1]}.{suffix}"


def suffix_of(name: str) -> str:
    """Return the lower-case suffix with its dot, or an empty string."""
    _, dot, suffix = name.rpartition(".")
    return f".{suffix.lower()}" if dot else ""
