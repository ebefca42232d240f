"""What agentcore does when rows of the project change."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models.signals import post_delete
from django.dispatch import receiver

from .services import deletion

AT_ONCE = 20
"""How many threads go with their owner in the same breath; the sweep removes the others."""


@receiver(post_delete, sender=settings.AUTH_USER_MODEL, dispatch_uid="agentcore.remove_threads_of_owner")
def remove_threads_of_owner(**kwargs: Any) -> None:
    """Remove the threads of a deleted user as soon as that is committed."""
    transaction.on_commit(_remove_due, robust=True)


def _remove_due() -> None:
    for thread_id in deletion.due(AT_ONCE):
        deletion.remove_or_put_off(thread_id)
