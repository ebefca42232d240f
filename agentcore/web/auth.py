"""Who sends a request to the JSON API: the first function of `API_AUTH` that knows the user decides."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.utils.module_loading import import_string
from ninja.utils import check_csrf

from ..conf import get_settings
from ..exceptions import CsrfFailed

__all__ = ["authenticate", "session"]


def authenticate(request: HttpRequest) -> Any | None:
    """Return the user of a request, and make it `request.user`; None where none of `API_AUTH` knows one.

    Each is a function that gets the request and returns a user, or None where the request has no credentials of its
    kind, or no good ones. One that raises ninja's `HttpError` refuses the request with its status and sentence.
    """
    for path in get_settings().api_auth:
        user = import_string(path)(request)
        if user is not None and user.is_authenticated and user.is_active:
            request.user = user
            return user
    return None


def session(request: HttpRequest) -> Any | None:
    """Return the user whom the site's middleware knows by a cookie; raises for a command without the CSRF token.

    A browser sends cookies along with what any page asks of it, so only here is that token needed.
    """
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return None
    if check_csrf(request) is not None:
        raise CsrfFailed
    return user
