"""How a request is read: JSON in UTF-8, with the parameters its address knows, or not at all."""

from __future__ import annotations

import codecs
from collections.abc import Collection
from typing import Any

from django.http import HttpRequest
from ninja.parser import Parser

from ..values import jsontext

__all__ = ["JSON", "Malformed", "StrictParser", "check", "read_json"]

JSON = "application/json"
LONGEST_NAME = 80


class Malformed(Exception):
    """A request that is refused before anybody looks into what it asks for."""

    def __init__(self, status: int, code: str, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.http_status, self.code, self.detail, self.more = status, code, detail, more


class StrictParser(Parser):
    """Reads a body as `read_json` does; everything else in ninja's way."""

    def parse_body(self, request: HttpRequest) -> Any:
        """Return the value of the body; raises `Malformed`."""
        return read_json(request)


def check(request: HttpRequest, query: Collection[str]) -> None:
    """Raise `Malformed` where the request is not what a JSON address with these query parameters takes."""
    if not request.META.get("CONTENT_LENGTH", "").strip().isdigit() and request.META.get("CONTENT_LENGTH"):
        raise Malformed(400, "malformed", "The Content-Length is no number. Send the length of the body in bytes.")
    _check_charset(request)
    has_body = request.method not in ("GET", "HEAD") and bool(request.content_type or request.body)
    if has_body and request.content_type != JSON:
        raise Malformed(415, "unsupported_media_type", f"Send the body as JSON, with “Content-Type: {JSON}”.")
    if unknown := [name for name in request.GET if name not in query]:
        known = f"It takes {', '.join(sorted(query))}" if query else "It takes none"
        raise Malformed(
            422,
            "unknown_parameter",
            f"This address does not know the query parameter “{unknown[0][:LONGEST_NAME]}”. {known}.",
            errors=[
                {"where": f"query.{name[:LONGEST_NAME]}", "what": "There is no such parameter"} for name in unknown[:20]
            ],
        )


def read_json(request: HttpRequest) -> Any:
    """Return the value of a JSON body, read as strictly as a model's arguments; raises `Malformed`."""
    _check_charset(request)
    try:
        return jsontext.parse(request.body.decode())
    except UnicodeDecodeError as error:
        raise Malformed(400, "not_json", "The body is not UTF-8. Encode it so and send it again.") from error
    except ValueError as error:
        reason = jsontext.shorten(str(error), 200)
        raise Malformed(400, "not_json", f"The body is not valid JSON: {reason}. Correct it and send it again.") from (
            error
        )


def _check_charset(request: HttpRequest) -> None:
    charset = (request.content_params or {}).get("charset", "utf-8")
    try:
        known = codecs.lookup(charset).name
    except (LookupError, ValueError):  # ValueError: a name with a zero byte
        known = ""
    if known not in ("utf-8", "ascii"):
        raise Malformed(415, "unsupported_charset", "The body must be UTF-8. Send no other charset.")
