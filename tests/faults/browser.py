"""A logged-in client of a real web process, which says what it was answered and never waits without end."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from django.conf import settings
from django.test import Client

TOKEN = "a" * 32


@dataclass(frozen=True)
class Answer:
    """A status, the headers and the JSON of a response; status 0 where the connection broke."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None


@dataclass(frozen=True)
class Browser:
    """Requests of one user's session."""

    origin: str
    cookie: str

    @classmethod
    def of(cls, origin: str, user: Any) -> Browser:
        """Log a user in, without a request."""
        client = Client()
        client.force_login(user)
        session = client.cookies[settings.SESSION_COOKIE_NAME].value
        return cls(origin, f"{settings.SESSION_COOKIE_NAME}={session}; {settings.CSRF_COOKIE_NAME}={TOKEN}")

    def send(self, thread: Any, text: str = "go", *, agent: str = "echo", key: str = "", timeout: float = 30) -> Answer:
        """Send a message, under a key of its own or the one given."""
        body = {"agent": agent, "text": text, "key": key or uuid4().hex}
        return self.post(f"/agent/threads/{thread.pk}/runs", body, timeout=timeout)

    def post(self, path: str, body: Any, *, timeout: float = 30) -> Answer:
        """Send a command."""
        return self._ask(path, json.dumps(body).encode(), timeout)

    def get(self, path: str, *, timeout: float = 30) -> Answer:
        """Read something."""
        return self._ask(path, None, timeout)

    def _ask(self, path: str, body: bytes | None, timeout: float) -> Answer:
        headers = {"Cookie": self.cookie, "X-CSRFToken": TOKEN, "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.origin}{path}", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as response:
                return Answer(response.status, dict(response.headers), _json(response.read()))
        except urllib.error.HTTPError as refusal:
            with refusal:
                return Answer(refusal.code, dict(refusal.headers), _json(refusal.read()))
        except OSError:
            return Answer(0)


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text.decode(errors="replace")
