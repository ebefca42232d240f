"""What agentcore does when rows of the project change."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import connections, transaction
from django.db.models.signals import post_delete
from django.dispatch import receiver

from . import deletion

AT_ONCE = 20
"""How many threads go with their owners in the same breath; the sweep removes the others."""


@receiver(post_delete, sender=settings.AUTH_USER_MODEL, dispatch_uid="agentcore.remove_threads_of_owner")
def remove_threads_of_owner(using: str, **kwargs: Any) -> None:
    """Remove the threads of deleted users as soon as that is committed: once, however many users that are."""
    waiting = [hook[1] for hook in connections[using].run_on_commit]
    if _remove_due not in waiting:
        transaction.on_commit(_remove_due, using=using, robust=True)


def _remove_due() -> None:
    deletion.remove_at_once(AT_ONCE)
