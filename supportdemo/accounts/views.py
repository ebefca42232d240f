"""Log-in and log-out: Django's own, with the demo's logins shown in development."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth import views as auth

from .forms import LoginForm
from .people import PEOPLE


class LoginView(auth.LoginView):
    """The log-in page; a log-in from a POST only, and a redirect to this host only."""

    template_name = "accounts/login.html"
    authentication_form = LoginForm
    redirect_authenticated_user = True

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(demo_logins=PEOPLE if settings.DEBUG else (), **kwargs)


class LogoutView(auth.LogoutView):
    """Log out, by POST."""
