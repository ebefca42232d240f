"""Errors of the JSON API, as RFC 9457 problems: an id, a sentence, and a way out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.urls import URLPattern
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, ValidationError

from ..exceptions import Conflict, Invalid, NotAllowed, NotFound, RequestError, UnknownAgent
from ..ids import uuid7
from ..outage import is_outage

logger = logging.getLogger("agentcore.web")

_STATUS: dict[type[RequestError], int] = {NotFound: 404, NotAllowed: 403, Invalid: 400, Conflict: 409}
_TITLES = {
    400: "The request is not valid",
    401: "You are not signed in",
    403: "Not allowed",
    404: "Not found",
    405: "Not allowed here",
    409: "Conflict",
    413: "The request is too large",
    500: "Something went wrong",
    503: "Not available now",
}

RETRY_AFTER = 2  # seconds; what is away for longer is asked for again
UNAVAILABLE = (
    "The database does not answer now. Send the same again in a moment: with the same key, nothing happens twice."
)


# What the framework itself refuses: a missing CSRF token, a body that is not JSON.
_HTTP_ERRORS = {
    400: ("invalid", "The body is not valid JSON. Correct it and send it again."),
    403: ("csrf_failed", "The CSRF token is missing or not the session's. Reload the page and send the request again."),
}


def problem(status: int, code: str, detail: str, *, error: Exception | None = None, **more: Any) -> HttpResponse:
    """Return a problem response; its `id` is in the log too, there with the `error` that nobody else may see."""
    reference = uuid7().hex[-12:]
    level = logging.INFO if error is None else logging.ERROR
    logger.log(level, "problem %s %s %s", status, code, reference, exc_info=error, extra={"action": "problem"})
    body = {
        "type": f"urn:agentcore:problem:{code}",
        "title": _TITLES.get(status, "The request failed"),
        "status": status,
        "detail": detail,
        "code": code,
        "id": reference,
        **more,
    }
    return JsonResponse(body, status=status, content_type="application/problem+json")


def install(api: NinjaAPI) -> None:
    """Let an API answer every error with a problem."""

    @api.exception_handler(RequestError)
    def refused(request: HttpRequest, error: RequestError) -> HttpResponse:
        status = next((number for kind, number in _STATUS.items() if isinstance(error, kind)), 400)
        return problem(status, error.code, error.message)

    @api.exception_handler(UnknownAgent)
    def unknown_agent(request: HttpRequest, error: UnknownAgent) -> HttpResponse:
        return problem(404, error.code, "There is no agent of this name.")

    @api.exception_handler(AuthenticationError)
    def anonymous(request: HttpRequest, error: AuthenticationError) -> HttpResponse:
        return problem(401, "not_signed_in", "Sign in and send the request again.")

    @api.exception_handler(ValidationError)
    def invalid(request: HttpRequest, error: ValidationError) -> HttpResponse:
        if any(item["loc"][0] == "path" for item in error.errors):
            missing = NotFound()  # an id that cannot be one names nothing
            return problem(404, missing.code, missing.message)
        faults = [{"where": ".".join(map(str, item["loc"])), "what": item["msg"]} for item in error.errors]
        return problem(400, "invalid", "Some fields are not valid. Correct them and send again.", errors=faults)

    @api.exception_handler(HttpError)
    def http_error(request: HttpRequest, error: HttpError) -> HttpResponse:
        code, detail = _HTTP_ERRORS.get(error.status_code, ("http_error", f"{error}."))
        return problem(error.status_code, code, detail)

    @api.exception_handler(RequestDataTooBig)
    def too_large(request: HttpRequest, error: RequestDataTooBig) -> HttpResponse:
        return problem(413, "body_too_large", "The request is larger than this site takes. Send less at once.")

    @api.exception_handler(Exception)
    def defect(request: HttpRequest, error: Exception) -> HttpResponse:
        if is_outage(error):
            return unavailable(error)
        detail = (
            "Something went wrong here. Try again; if it lasts, give the id of this problem to whoever runs the site."
        )
        return problem(500, "internal_error", detail, error=error)


def unavailable(error: Exception) -> HttpResponse:
    """Return the answer to a request that the database could not serve: the same one may be sent again."""
    response = problem(503, "unavailable", UNAVAILABLE, error=error)
    response["Retry-After"] = str(RETRY_AFTER)
    return response


def urls_of(api: NinjaAPI) -> list[URLPattern]:
    """Return an API's addresses, where a wrong method is a problem too."""
    patterns = [pattern for pattern in api.urls[0] if isinstance(pattern, URLPattern)]
    for pattern in patterns:
        pattern.callback = _answered(pattern.callback)
    return patterns


def _answered(view: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(view)
    def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        response = view(request, *args, **kwargs)
        if not isinstance(response, HttpResponseNotAllowed):
            return response
        allowed = response["Allow"]
        refusal = problem(405, "method_not_allowed", f"This address takes {allowed} only.")
        refusal["Allow"] = allowed
        return refusal

    return answer
