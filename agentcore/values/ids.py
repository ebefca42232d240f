"""Identifiers of public objects."""

from __future__ import annotations

from uuid import UUID

from uuid_utils import compat


def uuid7() -> UUID:
    """Return a new time-ordered UUIDv7 (RFC 9562); those of one process sort as they were made."""
    return compat.uuid7()
