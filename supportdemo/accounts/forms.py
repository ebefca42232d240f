"""The log-in forms of the desk and of the admin, with one limit on guesses."""

from __future__ import annotations

from typing import Any

from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth.forms import AuthenticationForm
from django.core.exceptions import ValidationError

from .limits import RateLimit, client_address

GUESSES = RateLimit("log-in", times=10, seconds=60)
# From many addresses. No limit is an address's alone: everybody behind it would be locked out by one of them.
GUESSES_OF_NAME = RateLimit("log-in-name", times=50, seconds=60)


class LoginForm(AuthenticationForm):
    """Django's form; ten wrong guesses a minute for a name from one address, fifty from all, then none."""

    def clean(self) -> dict[str, Any]:
        name = str(self.cleaned_data.get("username", "")).casefold()
        limits = ((GUESSES, f"{client_address(self.request)} {name}"), (GUESSES_OF_NAME, name))
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
