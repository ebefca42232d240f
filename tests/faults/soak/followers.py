"""The readers of the soak: they keep a position in each log and ask for what comes after it, whatever is cut off."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any
from uuid import UUID

from websockets.exceptions import WebSocketException
from websockets.sync.client import connect
from websockets.typing import Origin

from agentcore import SYSTEM
from agentcore.models import Run, Thread
from agentcore.services import events
from agentcore.testing import History
from tests.faults.soak.clients import Client

WAIT_SECONDS = 1.0
NEWEST = 200
RUNS_AT_ONCE = 20
MOST_CURSORS = 60


class Reader(Client):
    """Follows every run by its cursor, through the service."""

    def __init__(self, name: str, seed: int) -> None:
        super().__init__(name, seed)
        self.seen: dict[UUID, list[dict[str, Any]]] = defaultdict(list)
        self.ended: set[UUID] = set()

    def act(self) -> bool:
        newest = Run.objects.order_by("-created_at").values_list("pk", flat=True)[:NEWEST]
        runs = sorted({*(self.try_once(lambda: list(newest)) or ()), *self.seen} - self.ended)
        chosen = self.try_once(lambda: self._kept(self.random.sample(runs, min(len(runs), RUNS_AT_ONCE)))) or ()
        cursors = {run_id: len(self.seen[run_id]) - 1 for run_id in chosen}
        pages = self.try_once(lambda: events.read_batch(cursors, user=SYSTEM)) or {}
        for run_id, page in pages.items():
            self.seen[run_id] += page.events
            if page.done:
                self.ended.add(run_id)
        return True

    def _kept(self, runs: list[UUID]) -> list[UUID]:
        """Those of the runs that nobody has deleted; the others are forgotten."""
        kept = list(Run.objects.filter(pk__in=runs, thread__removal_due_at=None).values_list("pk", flat=True))
        for run_id in set(runs) - set(kept):
            self.seen.pop(run_id, None)
        return kept

    def has_seen(self, ends: dict[UUID, int]) -> bool:
        """Whether it has come to the ends of the logs it follows."""
        return all(len(self.seen[run_id]) >= end for run_id, end in self.mine(ends).items())

    def mine(self, ends: dict[UUID, int]) -> dict[UUID, int]:
        """The runs it follows, of all there are."""
        return ends

    def histories(self, ends: dict[UUID, int]) -> list[History]:
        """What it saw of each run that it follows."""
        return [History(self.name, run_id, self.seen[run_id]) for run_id in self.mine(ends)]


class Watcher(Reader):
    """Follows one thread over the websocket of a web process, which may die; then it comes back with its cursors."""

    def __init__(self, name: str, seed: int, thread: Thread, origin: str, cookie: str) -> None:
        super().__init__(name, seed)
        self.thread = thread
        self.origin = origin
        self.cookie = cookie
        self.position = -1
        self.connections = 0

    def act(self) -> bool:
        url = f"{self.origin.replace('http', 'ws', 1)}/ws/agent/threads/{self.thread.pk}/"
        headers = {"Cookie": self.cookie}
        try:
            with connect(
                url, additional_headers=headers, origin=Origin(self.origin), open_timeout=10, close_timeout=1
            ) as socket:
                self.connections += 1
                socket.send(json.dumps({"type": "attach", "cursors": self._cursors()}))
                while not self._over.is_set():
                    try:
                        frame = json.loads(socket.recv(timeout=WAIT_SECONDS))
                        if frame.get("type") == "mark":
                            socket.send(json.dumps({"type": "ack", "bytes": frame["bytes"]}))
                        self._take(frame)
                    except TimeoutError:
                        continue
        except (OSError, WebSocketException):
            pass  # it is gone, or not there yet
        return True

    def mine(self, ends: dict[UUID, int]) -> dict[UUID, int]:
        own = set(self.thread.runs.values_list("pk", flat=True))
        return {run_id: end for run_id, end in ends.items() if run_id in own}

    def _cursors(self) -> dict[str, int]:
        """Where it stands in the thread's log, and in the runs that have not ended for it."""
        live = {f"run:{run_id}": len(seen) - 1 for run_id, seen in self.seen.items() if run_id not in self.ended}
        return {f"thread:{self.thread.pk}": self.position, **dict(list(live.items())[-MOST_CURSORS:])}

    def _take(self, frame: dict[str, Any]) -> None:
        kind, _, name = str(frame.get("stream", "")).partition(":")
        event = frame.get("event")
        if event is None:
            return
        if kind == "thread":
            self.position = max(self.position, event["seq"])
            return
        seen = self.seen[UUID(name)]
        # A frame that comes again is dropped, as every client does; a gap is kept, for the checker to find.
        if event["seq"] >= len(seen):
            seen.append(event)
        if event["type"] == "done":
            self.ended.add(UUID(name))
