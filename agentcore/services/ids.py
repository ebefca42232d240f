"""What a service is told to work on: a row, or its id, which may come from outside."""

from __future__ import annotations

from uuid import UUID

from django.db.models import Model

from ..exceptions import NotFound


def id_of(named: Model | UUID | str) -> UUID:
    """Return the id of a row, or the one that is given; raises `NotFound` for text that cannot be one."""
    found = named.pk if isinstance(named, Model) else named
    if isinstance(found, UUID):
        return found
    try:
        return UUID(found)
    except (ValueError, AttributeError, TypeError) as error:
        raise NotFound from error
