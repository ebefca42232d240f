"""A model on this machine that speaks the chat-completions wire, and says and does what a test wrote down.

Point an adapter's base URL at `HttpModel.url`; workers in other processes reach it
too, so a script goes on where another worker takes over. Replies are plain data: made
by `says`, `asks`, `refuses`, `redirects` and `answers`, or of any bytes and pauses.
"""

from __future__ import annotations

import json
import select
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from .wire import FunctionCall, ask, chunk, end, sse

__all__ = ["FunctionCall", "HttpModel", "Pause", "Reply", "Seen", "answers", "asks", "redirects", "refuses", "says"]

LOOK_SECONDS = 0.02
EVENT_STREAM = {"Content-Type": "text/event-stream"}
FOR_EVER = float("inf")


@dataclass(frozen=True)
class Pause:
    """Nothing is sent for so long; without a number for as long as the client stays."""

    seconds: float = FOR_EVER


@dataclass(frozen=True)
class Reply:
    """One answer: a status, headers, and what is sent, piece by piece.

    `cut_after` ends it after so many bytes of the body; `whole` is false where the
    connection ends without saying so, as when the model's process dies.
    """

    pieces: Iterable[bytes | Pause] = ()
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: EVENT_STREAM)
    cut_after: int | None = None
    whole: bool = True

    def cut(self, after: int, *, politely: bool = False) -> Reply:
        """Return the same reply, cut off after so many bytes; politely is as if nothing were amiss."""
        return replace(self, cut_after=after, whole=politely)


@dataclass(frozen=True)
class Seen:
    """A request as it arrived; the names of headers are in lower case."""

    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]

    @property
    def prompt(self) -> str:
        """What the user said last."""
        said = [message["content"] for message in self.body["messages"] if message["role"] == "user"]
        return str(said[-1]) if said else ""

    @property
    def results(self) -> list[Mapping[str, Any]]:
        """The tool results since the user spoke last: what an adapter told the model."""
        messages: Sequence[Mapping[str, Any]] = self.body["messages"]
        last = max((place for place, message in enumerate(messages) if message["role"] == "user"), default=-1)
        return [message for message in messages[last + 1 :] if message["role"] == "tool"]


Script = Callable[[Seen], Reply]
Check = Callable[[Seen], Reply | None]


class HttpModel:
    """The server, for as long as the `with` block lasts.

    It answers with `script(request)`, or with the `replies` in order where there is no
    script. A request too many is refused, and counted in `unexpected`. What `check`
    finds wrong with a request is answered first, and takes no reply from the script.
    """

    def __init__(self, *replies: Reply, script: Script | None = None, check: Check | None = None) -> None:
        self.replies = list(replies)
        self.script = script
        self.check = check
        self.requests: list[Seen] = []
        self.unexpected = 0
        self.hung_up = threading.Event()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.model = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=[LOOK_SECONDS], daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        """The base URL for an adapter: where `/chat/completions` is found."""
        return f"{self.address}/v1"

    @property
    def address(self) -> str:
        """The server itself, for adapters that add the version to the path."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def answer(self, seen: Seen) -> Reply:
        """Note a request and return what the script says to it."""
        with self._lock:
            self.requests.append(seen)
            if self.check is not None and (refusal := self.check(seen)) is not None:
                return refusal
            if self.script is not None:
                return self.script(seen)
            if self.replies:
                return self.replies.pop(0)
            self.unexpected += 1
        return refuses(400, f"request {len(self.requests)} is one more than the script has replies for")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    model: HttpModel

    def handle_error(self, request: Any, client_address: Any) -> None:
        self.model.hung_up.set()  # a client that goes away in the middle is what a test may be about


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        reply = self.server.model.answer(Seen(self.path, _lower(self.headers.items()), json.loads(data or b"{}")))
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        left = reply.cut_after
        for piece in reply.pieces:
            if isinstance(piece, Pause):
                self._pause(piece.seconds)
                continue
            self._send(piece if left is None else piece[:left])
            if left is not None:
                left -= min(len(piece), left)
                if left == 0:
                    break
        if reply.whole:
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.close_connection = True

    def do_GET(self) -> None:
        self.do_POST()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a test reads `requests`."""

    def _send(self, data: bytes) -> None:
        if data:
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            self.wfile.flush()

    def _pause(self, seconds: float) -> None:
        """Wait, but not for a client that has gone nor beyond the end of the test."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self.server.model._closing.is_set():
            readable, _, _ = select.select([self.connection], [], [], min(left, LOOK_SECONDS))
            if readable and not self.connection.recv(1):
                raise ConnectionResetError


def _lower(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers}


def says(*texts: str, delay: float = 0.0, finish: str | None = "stop") -> Reply:
    """Return an answer in these pieces of text, `delay` seconds apart; without a `finish`, it breaks off politely."""
    pieces: list[bytes | Pause] = []
    for text in texts:
        pieces += [sse(chunk({"content": text})), *([Pause(delay)] if delay else [])]
    return Reply([*pieces, *end(finish)])


def asks(*calls: FunctionCall, text: str = "", finish: str | None = "tool_calls") -> Reply:
    """Return a request to run tools, after some text if there is any."""
    said = [sse(chunk({"content": text}))] if text else []
    asked = [sse(piece) for position, call in enumerate(calls) for piece in ask(position, call)]
    return Reply([*said, *asked, *end(finish)])


def refuses(status: int, message: str = "", code: Any = None, headers: Mapping[str, str] | None = None) -> Reply:
    """Return an error as providers send them."""
    body = json.dumps({"error": {"message": message or f"status {status}", "code": code}}).encode()
    return Reply([body], status, {"Content-Type": "application/json", **(headers or {})})


def redirects(url: str, status: int = 307) -> Reply:
    """Return a redirect, which an adapter must not follow: the request holds the key."""
    return Reply([b"moved"], status, {"Content-Type": "text/plain", "Location": url})


def answers(body: bytes, content_type: str) -> Reply:
    """Return any body at all, such as the page of a proxy."""
    return Reply([body], 200, {"Content-Type": content_type})
