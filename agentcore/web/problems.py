"""Errors of the JSON API, as RFC 9457 problems: an id, a sentence, and a way out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache, wraps
from typing import Any

from django.core.exceptions import BadRequest, RequestDataTooBig, SuspiciousOperation
from django.http import HttpRequest, HttpResponse, JsonResponse, UnreadablePostError
from django.urls import URLPattern, re_path
from django.views.decorators.csrf import csrf_exempt
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, ValidationError

from ..database.outage import is_outage
from ..exceptions import Conflict, Invalid, NotAllowed, NotFound, RequestError, TooLarge, UnknownAgent
from ..values.ids import uuid7
from ..values.logextra import log_extra
from .requests import Malformed, check

logger = logging.getLogger("agentcore.web")

_STATUS: dict[type[RequestError], int] = {
    NotFound: 404,
    NotAllowed: 403,
    TooLarge: 413,  # before `Invalid`, its base class
    Invalid: 400,
    Conflict: 409,
}
_TITLES = {
    400: "The request is not valid",
    401: "You are not signed in",
    403: "Not allowed",
    404: "Not found",
    405: "Not allowed here",
    409: "Conflict",
    413: "The request is too large",
    415: "The request is not JSON",
    422: "The request is not valid",
    500: "Something went wrong",
    503: "Not available now",
}

RETRY_AFTER = 2  # seconds; where the database is away for longer, the client asks again
UNAVAILABLE = (
    "The database does not answer now. Send the same again in a moment: with the same key, nothing happens twice."
)
SIGN_IN = "Sign in and send the request again."

MOST_ERRORS = 20
"""The most faults that one problem names."""
LONGEST_PLACE = 200

# An `HttpError` of the project's own functions: the problem's code, and its sentence where the error has none.
_HTTP_ERRORS = {
    401: ("not_signed_in", SIGN_IN),
    403: (NotAllowed.code, NotAllowed().message),
    404: (NotFound.code, NotFound().message),
}


def problem(status: int, code: str, detail: str, *, error: Exception | None = None, **more: Any) -> HttpResponse:
    """Return a problem response; its `id` is in the log too, there with the `error` that nobody else may see."""
    reference = uuid7().hex[-12:]
    level = logging.INFO if error is None else logging.ERROR
    logger.log(level, "problem %s %s %s", status, code, reference, exc_info=error, extra=log_extra("problem"))
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
        return problem(401, "not_signed_in", SIGN_IN)

    @api.exception_handler(ValidationError)
    def invalid(request: HttpRequest, error: ValidationError) -> HttpResponse:
        if any(item["loc"][0] == "path" for item in error.errors):
            missing = NotFound()  # an id that cannot be one names nothing
            return problem(404, missing.code, missing.message)
        faults = [
            {"where": ".".join(map(str, item["loc"]))[:LONGEST_PLACE], "what": item["msg"]}
            for item in error.errors[:MOST_ERRORS]
        ]
        return problem(422, "invalid", "Some fields are not valid. Correct them and send again.", errors=faults)

    @api.exception_handler(Malformed)
    def malformed(request: HttpRequest, error: Malformed) -> HttpResponse:
        return problem(error.http_status, error.code, error.detail, **error.more)

    @api.exception_handler(HttpError)
    def http_error(request: HttpRequest, error: HttpError) -> HttpResponse:
        if isinstance(error.__cause__, Malformed):  # ninja wraps what its parser raises
            return malformed(request, error.__cause__)
        code, sentence = _HTTP_ERRORS.get(error.status_code, ("http_error", "The request was refused."))
        said = str(error).strip()
        return problem(error.status_code, code, f"{said.rstrip('.')}." if said else sentence)

    @api.exception_handler(RequestDataTooBig)
    def too_large(request: HttpRequest, error: RequestDataTooBig) -> HttpResponse:
        return problem(413, "body_too_large", "The request is larger than this site takes. Send less at once.")

    @api.exception_handler(BadRequest)
    @api.exception_handler(SuspiciousOperation)
    @api.exception_handler(UnreadablePostError)
    def unreadable(request: HttpRequest, error: Exception) -> HttpResponse:
        return problem(400, "malformed", "The request cannot be read. Correct it and send it again.")

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
    """Return an API's URL patterns, and one for all other addresses below it; each refusal is a problem."""
    patterns = [pattern for pattern in api.urls[0] if isinstance(pattern, URLPattern)]
    for pattern in patterns:
        address = str(pattern.pattern).replace("<", "{").replace(">", "}")
        view = pattern.callback
        pattern.callback = csrf_exempt(_answered(api, view, address) if address else _nowhere)
    return [*patterns, re_path("", csrf_exempt(_nowhere))]


@cache
def _query_parameters(api: NinjaAPI) -> dict[str, dict[str, frozenset[str]]]:
    """Return the names that each method of each address takes in its query, as the API's document has them."""
    return {
        address.lstrip("/"): {
            method.upper(): frozenset(item["name"] for item in operation.get("parameters", []) if item["in"] == "query")
            for method, operation in operations.items()
        }
        for address, operations in api.get_openapi_schema(path_prefix="")["paths"].items()
    }


def _nowhere(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
    missing = NotFound()
    return problem(404, missing.code, missing.message)


def _answered(api: NinjaAPI, view: Callable[..., Any], address: str) -> Callable[..., Any]:
    @wraps(view)
    def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        try:
            # Read here, not on import: each manage.py command that checks the project imports the URL patterns.
            query = _query_parameters(api).get(address, {"GET": frozenset()})
        except Exception as error:
            return api.on_exception(request, error)
        method = str(request.method)
        if method not in query:
            allowed = ", ".join(query)
            refusal = problem(405, "method_not_allowed", f"This address takes {allowed} only.")
            refusal["Allow"] = allowed
            return refusal
        try:
            check(request, query[method])
        except Exception as error:
            return api.on_exception(request, error)
        return view(request, *args, **kwargs)

    return answer
