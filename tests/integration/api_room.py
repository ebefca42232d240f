"""What tests of the JSON API share: a browser, the shape of a problem, a thread, and every address there is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings as django_settings
from django.middleware.csrf import _get_new_csrf_string
from django.test import Client

from agentcore import tool
from agentcore.models import Approval, Message, Run, Thread
from agentcore.testing import Turn, run_until_idle
from agentcore.web.api import api
from tests.integration.room import make, only_approval

BASE = "/agent/"


@tool(needs_approval=True)
def pay(cents: int) -> str:
    """Pay."""
    return f"paid {cents}"


class Caller:
    """A browser: a session, the CSRF cookie, and the header that goes with it."""

    def __init__(self, person: Any = None) -> None:
        self.client = Client(enforce_csrf_checks=True, raise_request_exception=False)
        if person is not None:
            self.client.force_login(person)
        self.token = _get_new_csrf_string()
        self.client.cookies[django_settings.CSRF_COOKIE_NAME] = self.token

    def get(self, path: str, **query: Any) -> Any:
        """GET below the API's address."""
        return self.client.get(BASE + path, query)

    def post(self, path: str, body: Any = None, *, raw: bytes | None = None, csrf: bool = True) -> Any:
        """POST JSON below the API's address."""
        data = json.dumps({} if body is None else body).encode() if raw is None else raw
        headers = {"X-CSRFToken": self.token} if csrf else {}
        return self.client.post(BASE + path, data, content_type="application/json", headers=headers)

    def call(self, method: str, path: str, body: Any) -> Any:
        """Do either."""
        return self.get(path) if method == "GET" else self.post(path, body)


def problem(answer: Any, status: int, code: str | None = None) -> dict[str, Any]:
    """The answer's problem; fails where it is none."""
    assert answer.status_code == status, (answer.status_code, answer.content[:500])
    assert answer["Content-Type"] == "application/problem+json", answer["Content-Type"]
    body: dict[str, Any] = answer.json()
    assert {"type", "title", "status", "detail", "code", "id"} <= set(body)
    assert body["status"] == status and re.fullmatch(r"[0-9a-f]{12}", body["id"])
    assert body["type"] == f"urn:agentcore:problem:{body['code']}" and body["detail"].endswith(".")
    if code is not None:
        assert body["code"] == code
    return body


def ok(answer: Any, status: int = 200) -> Any:
    """The answer's body; fails where it is a problem."""
    assert answer.status_code == status, (answer.status_code, answer.content[:500])
    assert answer["Content-Type"].startswith("application/json")
    return answer.json()


@dataclass
class World:
    """A thread of `owner` with a run that waits for an approval and one that failed."""

    thread: Thread
    waiting: Run
    failed: Run
    approval: Approval
    model: Any
    callers: dict[str, Caller] = field(default_factory=dict)

    def ids(self) -> dict[str, Any]:
        return {"thread_id": self.thread.pk, "run_id": self.waiting.pk}

    def decision(self, **more: Any) -> dict[str, Any]:
        return {"approval": str(self.approval.pk), "verdict": "approve", "digest": self.approval.digest, **more}


@dataclass(frozen=True)
class Operation:
    """One method of one address, as the router has it."""

    method: str
    path: str

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def is_of_one_object(self) -> bool:
        return "{" in self.path

    def at(self, **ids: Any) -> str:
        """The address for these ids."""
        return self.path.format(**ids)


def operations() -> Iterator[Operation]:
    for _, router in api._routers:
        for path, view in router.path_operations.items():
            for operation in view.operations:
                for method in operation.methods:
                    yield Operation(method, path)


OPERATIONS = list(operations())
BODIES = {
    "POST threads/{thread_id}/runs": lambda world: {"agent": "test", "text": "Hello", "key": "matrix"},
    "POST runs/{run_id}/cancel": lambda world: {"reason": "Because."},
    "POST runs/{run_id}/retry": lambda world: {},
    "POST approvals/decide": lambda world: {"decisions": [world.decision()]},
}


def state() -> list[Any]:
    """Everything a request could have changed."""
    return [list(model.objects.order_by("pk").values()) for model in (Thread, Run, Message, Approval)]


def build(user: Any, other_user: Any, operator: Any) -> World:
    """Make a world; the caller has isolated the registry."""
    room = make(
        [Turn(error=RuntimeError("boom")), Turn(text="Shall I?", calls=[("pay", {"cents": 5})]), Turn(text="Paid.")],
        [pay],
        user=user,
    )
    failed = run_until_idle(room.agent.runs.send(room.thread, "Break", user=user, key="first"))
    waiting = run_until_idle(room.agent.runs.send(room.thread, "Pay", user=user, key="second"))
    assert (failed.status, waiting.status) == ("failed", "waiting")
    callers = {
        "owner": Caller(user),
        "stranger": Caller(other_user),
        "operator": Caller(operator),
        "anonymous": Caller(),
    }
    return World(room.thread, waiting, failed, only_approval(waiting), room.model, callers)
