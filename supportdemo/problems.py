"""Errors of the demo's JSON endpoints: RFC 9457 problems with a code, a sentence and a way out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from http import HTTPStatus
from typing import Any, Concatenate, ParamSpec
from uuid import uuid4

from django.http import Http404, HttpRequest, HttpResponseBase, JsonResponse

from agentcore.exceptions import Conflict, Invalid, NotAllowed, NotFound, RequestError
from agentcore.web.requests import Malformed

logger = logging.getLogger("supportdemo.problems")
P = ParamSpec("P")
STATUS_OF: list[tuple[type[RequestError], int]] = [(NotFound, 404), (NotAllowed, 403), (Invalid, 400), (Conflict, 409)]


class Problem(Exception):
    """A refusal that the person at the other end can read."""

    def __init__(self, status: int, code: str, detail: str, **extra: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.extra = extra

    def response(self) -> JsonResponse:
        """Return the problem as `application/problem+json`."""
        body = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "id": uuid4().hex,
            **self.extra,
        }
        logger.info("refused: %s", self.code, extra={"action": self.code, "problem": body["id"]})
        response = JsonResponse(body, status=self.status, content_type="application/problem+json")
        if "retry_after" in self.extra:
            response.headers["Retry-After"] = str(self.extra["retry_after"])
        return response


def not_found() -> Problem:
    """The one answer for what is missing and for what belongs to somebody else."""
    return Problem(404, NotFound.code, NotFound().message)


def json_view(
    view: Callable[Concatenate[HttpRequest, P], HttpResponseBase],
) -> Callable[Concatenate[HttpRequest, P], HttpResponseBase]:
    """Make a view answer in problems: to nobody in particular 401, to the wrong method 405."""

    @wraps(view)
    def answer(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        try:
            if request.method != "POST":
                raise Problem(405, "method_not_allowed", "Send this as POST.")
            if not request.user.is_authenticated:
                raise Problem(401, "not_authenticated", "You are logged out. Log in and send it again.")
            return view(request, *args, **kwargs)
        except Problem as problem:
            return problem.response()
        except Malformed as error:
            return Problem(error.http_status, error.code, error.detail).response()
        except Http404:
            return not_found().response()
        except RequestError as error:
            status = next((status for kind, status in STATUS_OF if isinstance(error, kind)), 400)
            return Problem(status, error.code, error.message).response()

    return answer
