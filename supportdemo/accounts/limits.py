"""Rate limits kept in the database, so that they hold across processes and restarts."""

from __future__ import annotations

import time
from dataclasses import dataclass

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.http import HttpRequest

from .models import Allowance


@dataclass(frozen=True)
class RateLimit:
    """At most `times` an action in each window of `seconds`."""

    action: str
    times: int
    seconds: int

    def take(self, subject: str) -> int | None:
        """Count one use; return None, or the seconds to wait where nothing is left.

        In a transaction, uses of one subject wait for each other until its end.
        """
        now = time.time()
        window = int(now // self.seconds)
        mine = Allowance.objects.filter(action=self.action, subject=subject[:200])
        with transaction.atomic():
            row, created = mine.get_or_create(
                action=self.action, subject=subject[:200], window=window, defaults={"used": 1}
            )
            if created:
                mine.filter(window__lt=window).delete()
                return None
            # One conditional UPDATE: two requests cannot both take the last use.
            taken = Allowance.objects.filter(pk=row.pk, used__lt=self.times).update(used=F("used") + 1)
        return None if taken else max(1, round((window + 1) * self.seconds - now))

    def give_back(self, subject: str) -> None:
        """Undo the latest use."""
        latest = Allowance.objects.filter(action=self.action, subject=subject[:200], used__gt=0).order_by("-window")
        Allowance.objects.filter(pk__in=list(latest.values_list("pk", flat=True)[:1])).update(used=F("used") - 1)


def client_address(request: HttpRequest | None) -> str:
    """Return where a request comes from: what the connection says, or what a trusted proxy says of it.

    Anybody can send `X-Forwarded-For`. It is believed only from an address in `TRUSTED_PROXIES`, and read from its end,
    where the proxies write, up to the first address that is none of them.
    """
    if request is None:
        return ""
    address = str(request.META.get("REMOTE_ADDR", ""))
    forwarded = request.headers.get("X-Forwarded-For", "").split(",")
    while address in settings.TRUSTED_PROXIES and forwarded and (named := forwarded.pop().strip()):
        address = named
    return address
