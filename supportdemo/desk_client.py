"""A browser's part without a browser: log in, send, upload, watch a thread over its websocket."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any, Self
from uuid import uuid4

import httpx
from websockets.sync.client import ClientConnection, connect

SESSION_COOKIE = "supportdemo_session"
CSRF_COOKIE = "supportdemo_csrf"
FRAME_SECONDS = 20.0


class Unexpected(AssertionError):
    """Something else happened than what had to."""


def expect(condition: Any, what: str, got: Any = "") -> None:
    """Fail with what was expected and what came instead."""
    if not condition:
        raise Unexpected(f"expected {what}" + (f"; got {got}" if got != "" else ""))


class Desk:
    """One person's session with the desk."""

    def __init__(self, base: str, name: str) -> None:
        self.base = base.rstrip("/")
        self.name = name
        self.http = httpx.Client(base_url=self.base, timeout=20, trust_env=False, headers={"Referer": f"{self.base}/"})

    def __enter__(self) -> Self:
        self.http.get("/accounts/login/")
        answer = self.http.post(
            "/accounts/login/",
            data={"username": self.name, "password": self.name, "csrfmiddlewaretoken": self.csrf},
        )
        expect(answer.status_code == 302, f"{self.name} to be logged in and sent on", _short(answer))
        return self

    def __exit__(self, *error: object) -> None:
        self.http.close()

    @property
    def csrf(self) -> str:
        """The token that every command carries."""
        return self.http.cookies.get(CSRF_COOKIE) or ""

    def open_case(self, subject: str) -> str:
        """Open a case and return the address of its page."""
        fields = {"subject": subject, "priority": "normal", "csrfmiddlewaretoken": self.csrf}
        answer = self.http.post("/cases/new/", data=fields)
        expect(answer.status_code == 302, "a new case and a redirect to its page", _short(answer))
        return answer.headers["location"]

    def thread_of(self, case: str) -> str:
        """Return the thread that a case's page names."""
        page = self.http.get(case)
        found = re.search(r'data-ac-thread="([0-9a-f-]{36})"', page.text)
        expect(page.status_code == 200 and found, f"the page of case {case} with its thread", _short(page))
        assert found is not None
        return found[1]

    def attach(self, case: str, name: str, data: bytes) -> dict[str, Any]:
        """Upload a text file to a case."""
        answer = self.http.post(f"{case}files/", files={"file": (name, data, "text/plain")}, headers=self._headers())
        expect(answer.status_code == 201, "the file to be stored", _short(answer))
        stored: dict[str, Any] = answer.json()
        return stored

    def send(self, case: str, text: str, files: list[str]) -> dict[str, Any]:
        """Send a message as the page does, with a key of its own."""
        body = {"text": text, "key": str(uuid4()), "files": files}
        answer = self.post(f"{case}messages/", body)
        expect(answer.status_code == 201, "the message to be accepted with 201", _short(answer))
        sent: dict[str, Any] = answer.json()
        return sent

    def post(self, path: str, body: Any) -> httpx.Response:
        """Send a command of the JSON API."""
        return self.http.post(path, json=body, headers=self._headers())

    def get(self, path: str) -> Any:
        """Read from the JSON API."""
        answer = self.http.get(path, headers={"Accept": "application/json"})
        expect(answer.status_code == 200, f"200 for {path}", _short(answer))
        return answer.json()

    def watch(self, thread: str) -> Watch:
        """Follow a thread over its websocket from the beginning of its log."""
        return Watch(self.base, thread, self.http.cookies.get(SESSION_COOKIE) or "")

    def _headers(self) -> dict[str, str]:
        return {"X-CSRFToken": self.csrf, "Accept": "application/json"}


class Watch:
    """A thread's events as they arrive; each stream must come without a gap and without a repetition."""

    def __init__(self, base: str, thread: str, session: str) -> None:
        self.last: dict[str, int] = {}
        self.frames = 0
        self._pieces: list[str] = []
        self._socket: ClientConnection = connect(
            f"{base.replace('http', 'ws', 1)}/ws/agent/threads/{thread}/",
            additional_headers={"Cookie": f"{SESSION_COOKIE}={session}"},
            origin=base,  # type: ignore[arg-type]
            proxy=None,
        )
        self._socket.send(json.dumps({"type": "attach", "cursors": {f"thread:{thread}": -1}}))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()

    def events(self, stream: str, until: str) -> Iterator[dict[str, Any]]:
        """Yield the events of one stream up to the first of type `until`, checking all that arrive on the way."""
        deadline = time.monotonic() + FRAME_SECONDS
        seen: dict[str, Any] = {}
        while seen.get("type") != until:
            event = self._next(deadline, f"{until} on {stream}; the last was {seen.get('type', 'none')}")
            if event is None or event["stream"] != stream:
                continue
            seen = event["event"]
            yield seen

    def _next(self, deadline: float, what: str) -> dict[str, Any] | None:
        try:
            frame: dict[str, Any] = json.loads(self._socket.recv(max(0.0, deadline - time.monotonic())))
        except TimeoutError:
            raise Unexpected(f"expected {what}, within {FRAME_SECONDS:g} s") from None
        expect(frame.get("type") != "error", what, frame)
        if frame.get("type") == "mark":
            self._socket.send(json.dumps({"type": "ack", "bytes": frame["bytes"]}))
        if "piece" in frame:
            self._pieces = [*(self._pieces if frame["part"] else []), frame["piece"]]
            if frame["part"] + 1 < frame["parts"]:
                return None
            frame["event"] = json.loads("".join(self._pieces))
        if "stream" not in frame:
            return None
        stream, seq = frame["stream"], frame["seq"]
        expect(
            seq == self.last.get(stream, -1) + 1, f"event {self.last.get(stream, -1) + 1} of {stream}", f"event {seq}"
        )
        self.last[stream] = seq
        self.frames += 1
        return frame


def _short(answer: httpx.Response) -> str:
    return f"{answer.status_code} {' '.join(answer.text.split())[:300]}"
