"""The log-in form, with a limit on guesses."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.forms import AuthenticationForm
from django.core.exceptions import ValidationError

from .limits import RateLimit

GUESSES = RateLimit("log-in", times=10, seconds=60)


class LoginForm(AuthenticationForm):
    """Django's form; ten wrong guesses a minute for a name from an address, then none."""

    def clean(self) -> dict[str, Any]:
        name = str(self.cleaned_data.get("username", "")).casefold()
        address = self.request.META.get("REMOTE_ADDR", "") if self.request else ""
        subject = f"{address} {name}"
        wait = GUESSES.take(subject)
        if wait is not None:
            raise ValidationError(f"Too many attempts. Wait {wait} seconds and try again.", code="too_many_attempts")
        data = super().clean()  # raises for a wrong password, and so keeps the count
        GUESSES.give_back(subject)
        return data
