"""The right to sweep: of many sweepers one at a time."""

from __future__ import annotations

from datetime import timedelta

from django.db import models
from django.db.models import Q, Value
from django.utils.translation import gettext_lazy as _

from ..database.dialect import DbNow

ONLY = 1


class SweepLeaseQuerySet(models.QuerySet["SweepLease"]):
    """The one row, and the two statements that change it."""

    def acquire(self, holder: str, seconds: float) -> bool:
        """Acquire or renew the lease by the database's clock; False where somebody else holds it."""
        if self._try_to_acquire(holder, seconds):
            return True
        if self.filter(pk=ONLY).exists():
            return False
        self.bulk_create([SweepLease(pk=ONLY)], ignore_conflicts=True)
        return self._try_to_acquire(holder, seconds)

    def release(self, holder: str) -> None:
        """Let the next one sweep at once."""
        self.filter(pk=ONLY, holder=holder).update(holder="", expires_at=None)

    def held_by(self) -> str:
        """Return who holds the lease now; empty where nobody does."""
        return self.filter(expires_at__gt=DbNow()).values_list("holder", flat=True).first() or ""

    def _try_to_acquire(self, holder: str, seconds: float) -> bool:
        free = Q(holder=holder) | Q(expires_at=None) | Q(expires_at__lt=DbNow())
        until = DbNow() + Value(timedelta(seconds=seconds))
        return self.filter(free, pk=ONLY).update(holder=holder, expires_at=until) == 1


class SweepLease(models.Model):
    """A table of one row."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=ONLY)
    holder = models.CharField(_("holder"), max_length=100, blank=True)
    expires_at = models.DateTimeField(_("expires at"), null=True, blank=True)

    objects = SweepLeaseQuerySet.as_manager()

    class Meta:
        verbose_name = _("sweep lease")
        verbose_name_plural = _("sweep leases")
        constraints = [models.CheckConstraint(condition=Q(pk=ONLY), name="agentcore_sweep_lease_only")]

    def __str__(self) -> str:
        return self.holder
