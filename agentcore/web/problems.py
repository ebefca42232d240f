"""Errors of the JSON API, as RFC 9457 problems: an id, a sentence, and a way out."""

from __future__ import annotations

import logging
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, ValidationError

from ..exceptions import Conflict, Invalid, NotAllowed, NotFound, RequestError, UnknownAgent
from ..ids import uuid7

logger = logging.getLogger("agentcore.web")

_STATUS: dict[type[RequestError], int] = {NotFound: 404, NotAllowed: 403, Invalid: 400, Conflict: 409}
_TITLES = {
    400: "The request is not valid",
    401: "You are not signed in",
    403: "Not allowed",
    404: "Not found",
    409: "Conflict",
    500: "Something went wrong",
}


def problem(status: int, code: str, detail: str, **more: Any) -> HttpResponse:
    """Return a problem response; its `id` is in the log too."""
    reference = uuid7().hex[-12:]
    logger.info("problem %s %s %s", status, code, reference, extra={"action": "problem"})
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
        faults = [{"where": ".".join(map(str, item["loc"])), "what": item["msg"]} for item in error.errors]
        return problem(400, "invalid", "Some fields are not valid. Correct them and send again.", errors=faults)

    @api.exception_handler(HttpError)
    def http_error(request: HttpRequest, error: HttpError) -> HttpResponse:
        return problem(error.status_code, "http_error", str(error))
