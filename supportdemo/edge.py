"""What the demo's ASGI application does before Django sees a request: small guards, and the static files."""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import Any
from uuid import uuid4

from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.exceptions import SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponseBase

MAX_BODY = 4 * 1024 * 1024
MAX_READ = 64 * 1024 * 1024
"""What a server may read, and drop, of a body that is too large: most clients hear no answer while they send."""
CHARSET = re.compile(rb";\s*charset(\*?)\s*=\s*[\"']?([^\s;\"']*)", re.IGNORECASE)
UTF_8 = {b"utf-8", b"utf8", b"us-ascii"}


class FixRootPath:
    """Pin `root_path`, so that no client can address /admin/ under another path.

    Daphne takes it from a request header, `Daphne-Root-Path`, and removes that
    header itself: here only the value is left to correct.
    """

    def __init__(self, app: Any, root_path: str = "") -> None:
        self.app = app
        self.root_path = root_path

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] in {"http", "websocket"}:
            headers = [pair for pair in scope["headers"] if pair[0].lower() != b"daphne-root-path"]
            scope = {**scope, "root_path": self.root_path, "headers": headers}
        await self.app(scope, receive, send)


class StaticFiles(ASGIStaticFilesHandler):
    """Django's handler for static files, to which a path that leads out of them, or can be none, is not found."""

    def serve(self, request: HttpRequest) -> HttpResponseBase:
        try:
            return super().serve(request)
        except (SuspiciousOperation, ValueError, OSError) as error:
            raise Http404 from error


class LimitBody:
    """Refuse a body over `MAX_BODY`, by its declared length or once that much has arrived, or in another charset.

    Django reads forms in whatever charset they name, also in one that is none, such as hex.
    """

    def __init__(self, app: Any, limit: int = MAX_BODY) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        charset = CHARSET.search(headers.get(b"content-type", b""))
        if charset is not None and (charset[1] or charset[2].lower() not in UTF_8):
            await _refuse(send, 415, "unsupported_charset", "The body must be UTF-8. Send no other charset.")
            return
        declared = headers.get(b"content-length", b"0")
        if not declared.isdigit():
            await _refuse(send, 400, "malformed", "The Content-Length is no number. Send the length of the body.")
            return
        if len(declared) > 18 or int(declared) > self.limit:
            await self._too_large(send)
            return
        received = 0
        started = over = False

        async def counted() -> dict[str, Any]:
            nonlocal received, over
            message: dict[str, Any] = await receive()
            received += len(message.get("body", b""))
            if received > self.limit:
                over = True
                return {"type": "http.disconnect"}  # Django stops reading and answers nothing
            return message

        async def watched(message: dict[str, Any]) -> None:
            nonlocal started
            started = True
            await send(message)

        await self.app(scope, counted, watched)
        if over and not started:
            await self._too_large(send)

    async def _too_large(self, send: Any) -> None:
        detail = f"The request is larger than {self.limit // 1024 // 1024} MB. Send a smaller file."
        await _refuse(send, 413, "body_too_large", detail)


async def _refuse(send: Any, status: int, code: str, detail: str) -> None:
    title = HTTPStatus(status).phrase
    problem = {"type": "about:blank", "title": title, "status": status, "detail": detail, "code": code}
    body = json.dumps({**problem, "id": uuid4().hex}).encode()
    headers = [(b"content-type", b"application/problem+json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
