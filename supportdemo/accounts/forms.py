"""The log-in forms of the desk and of the admin, with one limit on guesses."""

from __future__ import annotations

from typing import Any

from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth.forms import AuthenticationForm
from django.core.exceptions import ValidationError

from .limits import RateLimit

GUESSES = RateLimit("log-in", times=10, seconds=60)
# One password tried on many names is guessing too.
GUESSES_OF_ADDRESS = RateLimit("log-in-address", times=30, seconds=60)


class LoginForm(AuthenticationForm):
    """Django's form; ten wrong guesses a minute for a name from an address, thirty for any names, then none."""

    def clean(self) -> dict[str, Any]:
        name = str(self.cleaned_data.get("username", "")).casefold()
        address = self.request.META.get("REMOTE_ADDR", "") if self.request else ""
        limits = ((GUESSES, f"{address} {name}"), (GUESSES_OF_ADDRESS, address))
        for limit, subject in limits:
            wait = limit.take(subject)
            if wait is not None:
                raise ValidationError(
                    f"Too many attempts. Wait {wait} seconds and try again.", code="too_many_attempts"
                )
        data = super().clean()  # raises for a wrong password, and so keeps the count
        for limit, subject in limits:
            limit.give_back(subject)
        return data


class StaffLoginForm(LoginForm, AdminAuthenticationForm):
    """The admin's form, for staff only, with the same limits."""
