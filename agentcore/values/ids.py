"""Identifiers of public objects."""

from __future__ import annotations

from uuid import UUID

import uuid6


def uuid7() -> UUID:
    """Return a new time-ordered UUIDv7 (RFC 9562) as a plain `uuid.UUID`."""
    return UUID(int=uuid6.uuid7().int)
