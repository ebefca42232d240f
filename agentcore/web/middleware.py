"""A middleware for the whole site: while the database cannot serve, say so and when to come back."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.utils.deprecation import MiddlewareMixin

from ..database.outage import is_outage
from .problems import RETRY_AFTER, unavailable

PAGE = "<!doctype html><title>503</title><p>The site cannot reach its database now. Try again in a moment."


class OutageMiddleware(MiddlewareMixin):
    """Answers 503 instead of 500 where a view fails because the database is away, full, crowded or read-only."""

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Return the 503; None for what is a defect."""
        if not is_outage(exception):
            return None
        response = unavailable(exception)
        if "text/html" in request.headers.get("Accept", ""):
            response = HttpResponse(PAGE, status=503)
            response["Retry-After"] = str(RETRY_AFTER)
        return response
