"""What tests of the thread socket share: a world of rows, and a client that logs in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from importlib import import_module
from types import TracebackType
from typing import Any, Self
from uuid import UUID, uuid4

from asgiref.sync import sync_to_async
from channels.auth import AuthMiddlewareStack
from channels.routing import URLRouter
from channels.testing import WebsocketCommunicator
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.db import connections, transaction
from django.db.models import F
from django.utils import timezone

from agentcore.models import Run, Thread
from agentcore.routing import websocket_urlpatterns
from agentcore.streams import log

application = AuthMiddlewareStack(URLRouter(websocket_urlpatterns))
NOT_FOUND = 4404


def log_in(user: Any) -> str:
    """A new session of the user: its key."""
    session = import_module(settings.SESSION_ENGINE).SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    return str(session.session_key)


def make_thread(owner: Any) -> Thread:
    """A thread with an empty stream."""
    thread_id = uuid4()
    return Thread.objects.create(id=thread_id, owner=owner, stream=log.create(f"thread:{thread_id}"))


def make_run(thread: Thread) -> Run:
    """A pending run, announced on its thread's stream."""
    run_id = uuid4()
    with transaction.atomic():
        number = thread.runs.count() + 1
        stream = log.create(f"run:{run_id}", "external")
        run = Run.objects.create(id=run_id, thread=thread, stream=stream, number=number, order=number, agent="echo")
        announce(run)
    return run


def run_name(run: Run) -> str:
    """The name of the run's stream."""
    return f"run:{run.pk}"


def announce(run: Run) -> None:
    """Say on the thread's stream how the run stands."""
    event = {"type": "thread.run", "run": str(run.pk), "status": run.status, "number": run.number, "agent": run.agent}
    log.append(run.thread.stream_id, [lambda seq, now: json.dumps({"v": 1, "seq": seq, **event}).encode()])


def write(run: Run, *events: dict[str, Any]) -> None:
    """Write to a run's log as the engine does: the run's row allocates."""
    with transaction.atomic():
        Run.objects.filter(pk=run.pk).update(next_seq=F("next_seq") + len(events))
        first = Run.objects.get(pk=run.pk).next_seq - len(events)
        payloads = [json.dumps({"v": 1, "seq": first + at, **event}).encode() for at, event in enumerate(events)]
        log.write(run.stream_id, first, payloads)


def say(run: Run, *words: str) -> None:
    """Write a text delta a word."""
    write(run, *({"type": "text.delta", "step": 1, "text": word} for word in words))


def finish(run: Run, status: str = "succeeded") -> None:
    """End a run: its last event and its row, then its thread's."""
    with transaction.atomic():
        write(run, {"type": "done", "status": status})
        Run.objects.filter(pk=run.pk).update(status=status, finished_at=timezone.now())
        run.refresh_from_db()
        announce(run)


class Client:
    """A browser's side of one socket."""

    acks = True
    """Whether it acknowledges what it gets."""

    def __init__(self, thread_id: UUID, session_key: str | None = None, app: Any = application) -> None:
        headers = [(b"cookie", f"{settings.SESSION_COOKIE_NAME}={session_key}".encode())] if session_key else []
        path = f"/ws/agent/threads/{thread_id}/"
        self.socket = WebsocketCommunicator(app, path, headers=headers)
        self.frames: list[dict[str, Any]] = []
        self._pieces: list[str] = []

    async def __aenter__(self) -> Self:
        connected, code = await self.socket.connect(timeout=5)
        await close_shared_connections()
        assert connected, f"refused with {code}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.socket.disconnect(timeout=5)
        await close_shared_connections()

    async def refusal(self) -> Any:
        """The code a connection is refused with."""
        connected, code = await self.socket.connect(timeout=5)
        await self.socket.disconnect(timeout=5)
        await close_shared_connections()
        assert not connected
        return code

    async def attach(self, **cursors: int) -> dict[str, Any]:
        """Attach and return the answer."""
        await self.send({"type": "attach", "cursors": cursors})
        return await self.frame("attached")

    async def send(self, frame: Any) -> None:
        """Send a frame: text as it is, anything else as JSON."""
        await self.socket.send_to(text_data=frame if isinstance(frame, str) else json.dumps(frame))

    async def receive(self, timeout: float = 5) -> dict[str, Any]:
        """The next frame but pings and marks, an event that came in pieces as one, or what closed the socket."""
        while True:
            message = await self.socket.receive_output(timeout)
            if message["type"] == "websocket.close":
                return {"type": "closed", "code": message.get("code", 1000)}
            frame: dict[str, Any] = json.loads(message["text"])
            self.frames.append(frame)
            if frame.get("type") == "mark" and self.acks:
                await self.send({"type": "ack", "bytes": frame["bytes"]})
            if "piece" in frame:
                self._pieces = [*(self._pieces if frame["part"] else []), frame["piece"]]
                if frame["part"] + 1 < frame["parts"]:
                    continue
                frame = {**frame, "event": json.loads("".join(self._pieces))}
            if frame.get("type") not in ("ping", "mark"):
                return frame

    async def frame(self, kind: str, timeout: float = 5) -> dict[str, Any]:
        """The next frame of a kind, past events of streams."""
        while True:
            frame = await self.receive(timeout)
            if frame.get("type") == kind:
                return frame
            assert frame.get("type") != "closed", frame

    async def events(self, stream: str, count: int, timeout: float = 5) -> list[dict[str, Any]]:
        """The next `count` event frames of a stream."""
        got: list[dict[str, Any]] = []
        async with asyncio.timeout(timeout):
            while len(got) < count:
                frame = await self.receive(timeout)
                assert frame.get("type") != "closed", frame
                if frame.get("stream") == stream and "event" in frame:
                    got.append(frame)
        return got

    async def closed(self, timeout: float = 5) -> int:
        """The code the socket is closed with."""
        while True:
            frame = await self.receive(timeout)
            if frame.get("type") == "closed":
                return int(frame["code"])

    async def silent(self, seconds: float = 0.3) -> bool:
        """Whether nothing comes for a while."""
        return bool(await self.socket.receive_nothing(timeout=seconds, interval=0.02))


async def close_shared_connections() -> None:
    """Give back what the session middleware opened: a server does it, the communicator prevents it."""
    await sync_to_async(connections.close_all)()


def positions(frames: Iterable[dict[str, Any]]) -> list[int]:
    """The positions of event frames, which their events repeat."""
    listed = list(frames)
    assert all(frame["event"]["seq"] == frame["seq"] for frame in listed)
    return [frame["seq"] for frame in listed]
