"""From a message over HTTP to `done` over a websocket, through real processes: web server, worker, sweep, Redis."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import httpx
import pytest
from django.conf import settings
from websockets.sync.client import ClientConnection, connect

from agentcore.models import Approval, Run
from tests.faults.runs import LONG, assert_log_is_whole, events
from tests.stack import Stack, Web, wait_for

pytestmark = pytest.mark.django_db(transaction=True)


class Browser:
    """One person's session: logged in through the form, with the token on every command."""

    def __init__(self, web: Web, name: str, password: str = "pw") -> None:
        self.web = web
        self.http = httpx.Client(base_url=web.url, timeout=20, trust_env=False, headers={"Referer": f"{web.url}/"})
        self.http.get("/accounts/login/")
        answer = self.http.post(
            "/accounts/login/",
            data={
                "username": name,
                "password": password,
                "csrfmiddlewaretoken": self._cookie(settings.CSRF_COOKIE_NAME),
            },
        )
        assert answer.status_code == 302, answer.text[:300]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.http.close()

    def post(self, path: str, body: Any) -> httpx.Response:
        """Send a command."""
        return self.http.post(path, json=body, headers={"X-CSRFToken": self._cookie(settings.CSRF_COOKIE_NAME)})

    def get(self, path: str) -> Any:
        """Read."""
        answer = self.http.get(path)
        assert answer.status_code == 200, answer.text[:300]
        return answer.json()

    @contextmanager
    def watching(self, thread_id: Any) -> Iterator[Feed]:
        """Follow a thread from the beginning of its log."""
        session = f"{settings.SESSION_COOKIE_NAME}={self._cookie(settings.SESSION_COOKIE_NAME)}"
        with connect(
            f"{self.web.ws_url}/ws/agent/threads/{thread_id}/",
            additional_headers={"Cookie": session},
            origin=self.web.url,  # type: ignore[arg-type]
            proxy=None,
        ) as socket:
            socket.send(json.dumps({"type": "attach", "cursors": {f"thread:{thread_id}": -1}}))
            yield Feed(socket)

    def _cookie(self, name: str) -> str:
        return self.http.cookies.get(name) or ""


class Feed:
    """What arrives on a websocket: each stream's events, in order, without gaps and without repetitions."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.streams: dict[str, list[dict[str, Any]]] = {}

    def until(self, stream: str, kind: str) -> list[dict[str, Any]]:
        """Read until an event of this type has come on the stream; return all of the stream's events."""
        deadline = time.monotonic() + LONG
        while not any(event["type"] == kind for event in self.streams.get(stream, [])):
            try:
                frame = json.loads(self._socket.recv(max(0.0, deadline - time.monotonic())))
            except TimeoutError:
                seen = {name: [event["type"] for event in found] for name, found in self.streams.items()}
                raise AssertionError(f"{kind} did not come on {stream}; seen: {seen}") from None
            assert frame.get("type") != "error", frame
            if "stream" in frame:
                found = self.streams.setdefault(frame["stream"], [])
                assert frame["seq"] == frame["event"]["seq"] == len(found), frame
                found.append(frame["event"])
        return self.streams[stream]


@pytest.mark.covers("promise:P1", "promise:P6", "promise:P7")
def test_a_message_is_answered_through_an_approval(
    stack: Stack, make_thread: Callable[..., Any], operator: Any, other_user: Any
) -> None:
    thread = make_thread("gated")
    stack.worker()
    stack.sweeper()
    web = stack.web()
    with Browser(web, "ada") as ada, Browser(web, "olga") as olga, Browser(web, "bob") as bob:
        with ada.watching(thread.pk) as feed:
            sent = ada.post(f"/agent/threads/{thread.pk}/runs", {"agent": "gated", "text": "once", "key": "k1"})
            assert sent.status_code == 201, sent.text
            again = ada.post(f"/agent/threads/{thread.pk}/runs", {"agent": "gated", "text": "once", "key": "k1"})
            assert (again.status_code, again.json()["id"]) == (200, sent.json()["id"])
            run = f"run:{sent.json()['id']}"
            asked = feed.until(run, "approval.request")[-1]
            feed.until(run, "run.waiting")
            assert (asked["name"], asked["arguments"], stack.effects()) == ("gated_append", {"text": "once"}, [])

            decision = {"approval": asked["approval"], "verdict": "approve", "digest": asked["digest"]}
            for person, status in ((ada, 403), (bob, 404)):
                assert person.post("/agent/approvals/decide", {"decisions": [decision]}).status_code == status
            assert bob.http.get(f"/agent/runs/{sent.json()['id']}").status_code == 404
            (queued,) = olga.get("/agent/approvals")["approvals"]
            assert (queued["digest"], queued["arguments"]) == (asked["digest"], asked["arguments"])
            assert stack.effects() == []
            decided = olga.post("/agent/approvals/decide", {"decisions": [decision]})
            assert decided.status_code == 200, decided.text

            live = feed.until(run, "done")
            changes = [
                event["status"] for event in feed.streams[f"thread:{thread.pk}"] if event["type"] == "thread.run"
            ]
        assert live[-1]["status"] == "succeeded" and changes[0] == "pending"
        assert ada.get(f"/agent/runs/{sent.json()['id']}/events")["events"] == live
        shown = ada.get(f"/agent/threads/{thread.pk}/messages")["messages"]
        assert shown[0]["text"] == "once" and shown[-1]["text"] == "gated_append succeeded: appended once"
        assert ada.get(f"/agent/runs/{sent.json()['id']}")["status"] == "succeeded"
    assert len(stack.effects()) == 1
    made = Run.objects.get(thread=thread)
    assert_log_is_whole(made)
    approval = Approval.objects.get(run=made)
    assert approval.decided_by == operator and approval.consumed_at is not None


@pytest.mark.covers("fault:R2", "promise:P1")
def test_a_message_posted_while_redis_is_away_is_accepted_and_answered_when_it_is_back(
    outage_stack: Stack, make_thread: Callable[..., Any]
) -> None:
    thread = make_thread("echo")
    outage_stack.sweeper()
    web = outage_stack.web()
    with Browser(web, "ada") as ada:
        outage_stack.stop_redis()
        started = time.monotonic()
        sent = ada.post(f"/agent/threads/{thread.pk}/runs", {"agent": "echo", "text": "are you there", "key": "k"})
        assert (sent.status_code, sent.json()["status"]) == (201, "pending"), sent.text
        assert time.monotonic() - started < 3
        run = f"run:{sent.json()['id']}"
        with ada.watching(thread.pk) as feed:
            feed.until(run, "run.created")
            outage_stack.start_redis()
            outage_stack.worker()
            assert feed.until(run, "done")[-1]["status"] == "succeeded"
    made = Run.objects.get(thread=thread)
    assert_log_is_whole(made)
    wait_for(lambda: made.messages.filter(author_kind="agent").exists(), 5, "the answer's message")
    assert events(made)[-1]["type"] == "done"
