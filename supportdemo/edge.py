"""What the demo's ASGI application does before Django sees a request: two small guards."""

from __future__ import annotations

import json
from typing import Any

MAX_BODY = 4 * 1024 * 1024
TOO_LARGE = json.dumps(
    {
        "type": "about:blank",
        "title": "Content Too Large",
        "status": 413,
        "detail": f"The request is larger than {MAX_BODY // 1024 // 1024} MB. Send a smaller file.",
        "code": "body_too_large",
    }
).encode()


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


class LimitBody:
    """Refuse a body over `MAX_BODY`, by its declared length or once that much has arrived."""

    def __init__(self, app: Any, limit: int = MAX_BODY) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = next((value for name, value in scope["headers"] if name.lower() == b"content-length"), b"0")
        if not declared.isdigit() or int(declared) > self.limit:
            await _refuse(send)
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
            await _refuse(send)


async def _refuse(send: Any) -> None:
    headers = [(b"content-type", b"application/problem+json"), (b"content-length", str(len(TOO_LARGE)).encode())]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": TOO_LARGE})
