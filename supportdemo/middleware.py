"""One response header: what a page of the demo may load."""

from __future__ import annotations

import inspect
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils.decorators import sync_and_async_middleware

POLICY = "; ".join(
    [
        "default-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "img-src 'self' blob:",
        "object-src 'none'",
    ]
)


@sync_and_async_middleware
def content_security_policy(get_response: Any) -> Any:
    """Allow the page's own files and nothing inline; a view that sets a stricter policy keeps it."""

    def guarded(response: HttpResponse) -> HttpResponse:
        response.headers.setdefault("Content-Security-Policy", POLICY)
        return response

    if inspect.iscoroutinefunction(get_response):
        # Streams are asynchronous: a middleware that is not would cost each of them a thread.
        async def answer_async(request: HttpRequest) -> HttpResponse:
            return guarded(await get_response(request))

        return answer_async

    def answer(request: HttpRequest) -> HttpResponse:
        return guarded(get_response(request))

    return answer
