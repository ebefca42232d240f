"""What several models share: choices of a StrEnum, and the check that only they are stored."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from django.db.models import CheckConstraint, Q

LONGEST_NAME = 150  # a user name may be an e-mail address, which may be longer


def choices(statuses: type[StrEnum]) -> list[tuple[str, str]]:
    """Return (stored value, label) for every member."""
    return [(status.value, status.value.replace("_", " ")) for status in statuses]


def only(field: str, statuses: Iterable[StrEnum], name: str) -> CheckConstraint:
    """Return the constraint that `field` holds one of `statuses`."""
    return CheckConstraint(condition=Q(**{f"{field}__in": [status.value for status in statuses]}), name=name)
