"""What every answer of the demo gets: a header on what its page may load, and problems for those who read no pages."""

from __future__ import annotations

import inspect
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.template.response import SimpleTemplateResponse
from django.utils.decorators import sync_and_async_middleware

from .problems import Problem

REFUSALS = frozenset({400, 403, 404, 405, 413})

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


@sync_and_async_middleware
def problems_for_scripts(get_response: Any) -> Any:
    """Make a problem of what Django itself refuses with a page, for a client that does not ask for pages.

    A broken multipart body, a wrong token or an unknown host never reach a view; with DEBUG their page shows code.
    """

    def readable(request: HttpRequest, response: HttpResponse) -> HttpResponse:
        is_page = response.headers.get("Content-Type", "").startswith("text/html")
        # A page that a view has made, as the admin's form with its errors, is an answer and no refusal of Django's.
        is_refusal = response.status_code in REFUSALS and is_page and not isinstance(response, SimpleTemplateResponse)
        if not is_refusal or "text/html" in request.headers.get("Accept", ""):
            return response
        detail = f"The request was refused: {response.reason_phrase.lower()}. Correct it and send it again."
        problem = Problem(response.status_code, "refused", detail).response()
        problem.headers["Content-Length"] = str(len(problem.content))  # what else sets it stands further in
        return problem

    if inspect.iscoroutinefunction(get_response):

        async def answer_async(request: HttpRequest) -> HttpResponse:
            return readable(request, await get_response(request))

        return answer_async

    def answer(request: HttpRequest) -> HttpResponse:
        return readable(request, get_response(request))

    return answer
