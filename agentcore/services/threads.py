"""Threads: create, find, list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet

from ..access import SYSTEM, require, visible_threads
from ..database.again import unit
from ..exceptions import NotFound
from ..models import Thread
from ..streams import log
from ..values.ids import uuid7
from . import sizes
from .ids import id_of
from .twins import listing, twin


@unit
def create(*, user: Any, title: str = "", metadata: Mapping[str, Any] | None = None) -> Thread:
    """Create a thread owned by `user`; SYSTEM creates one without an owner.

    Raises `Invalid` for a title of more than 200 characters, and `TooLarge` for metadata beyond `METADATA_LIMIT` bytes.
    """
    require(user)
    key = uuid7()
    with transaction.atomic():
        return Thread.objects.create(
            id=key,
            owner=None if user is SYSTEM else user,
            title=sizes.line(title, "title", sizes.LONGEST_TITLE),
            metadata=sizes.metadata(metadata),
            stream=log.create(f"thread:{key}"),
        )


def get(thread: Thread | UUID | str, *, user: Any) -> Thread:
    """Return a thread `user` may see; raises `NotFound` for any other, there or not."""
    try:
        return visible_threads(user).get(pk=id_of(thread))
    except Thread.DoesNotExist as error:
        raise NotFound from error


def list_(*, user: Any) -> QuerySet[Thread]:
    """Return the threads `user` may see, newest first."""
    return visible_threads(user).order_by("-updated_at", "-pk")


acreate = twin(create)
aget = twin(get)
alist = listing(list_)
