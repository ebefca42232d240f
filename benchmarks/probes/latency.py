"""B4: how soon a person sees something: through a real worker, a real web server and a real WebSocket.

`first delta` is from before `send` until the frame with the first word is here.
`commit to frame` is from the return of COMMIT, in this process, until the frame of
the message it saved. `end to frame` is from the database's time of a run's last
transaction, which is a moment before its COMMIT, until the frame that says `done`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from datetime import datetime
from importlib import import_module
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.db import transaction
from websockets.asyncio.client import ClientConnection, connect

from agentcore.models import Thread
from benchmarks.app.agents import talker_agent
from benchmarks.figures import Sample, percentile
from benchmarks.probes import streams_of_words as talk
from benchmarks.probes.prepare import USERNAME
from benchmarks.probes.processes import agentcore_worker, manage, running, web_server
from benchmarks.subject import say

ROOM = 50
PATIENCE = 30.0
FEW_WORDS = "3 0.01"
Frame = dict[str, Any]


class Watcher:
    """One open socket, and the frames that have come, each with its time on two clocks."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._frames: asyncio.Queue[tuple[float, float, Frame]] = asyncio.Queue()
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for text in self._socket:
            steady, clock = time.perf_counter(), time.time()
            self._frames.put_nowait((steady, clock, json.loads(text)))

    async def wait(self, wanted: Callable[[Frame], bool]) -> tuple[float, float, Frame]:
        """Return the next frame that is wanted, and when it came."""
        async with asyncio.timeout(PATIENCE):
            while True:
                found = await self._frames.get()
                if wanted(found[2]):
                    return found

    async def stop(self) -> None:
        """Stop reading."""
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)


def main() -> None:
    """Measure, with a number of runs that stream meanwhile."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", default="postgres")
    parser.add_argument("--server", default="uvicorn")
    parser.add_argument("--streaming", type=int, default=0)
    parser.add_argument("--words-per-second", type=float, default=20)
    parser.add_argument("--sends", type=int, default=40)
    options = parser.parse_args()
    thread, cookie = _thread_and_cookie()
    mode = f"{options.streaming} runs × {options.words_per_second:g} words/s" if options.streaming else "idle"
    with ExitStack() as stack:
        stack.enter_context(running(manage(*agentcore_worker(options.streaming + ROOM))))
        origin = stack.enter_context(web_server(options.server))
        load = talk.send_talkers(options.streaming, options.words_per_second) if options.streaming else []
        if load:
            talk.wait_until_all_talk(load)
        before = talk.progress(load) if load else None
        times = asyncio.run(_measure(origin, cookie, thread, options.sends))
        after = talk.progress(load) if load else None
    samples = []
    for name, values in times.items():
        figures = {"p50_ms": percentile(values, 50), "p99_ms": percentile(values, 99)}
        if before and after:
            figures["words_per_s_per_run"] = talk.words_per_second(before, after, load)
        samples.append(Sample("B4", name, options.store, mode, options.streaming, figures))
    say(samples)


async def _measure(origin: str, cookie: str, thread: Thread, count: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {"send to first delta": [], "commit to frame": [], "end to frame": []}
    async with _watching(origin, cookie, thread) as watcher:
        for number in range(-3, count):
            first, end = await _send(watcher, thread)
            saved = await _save(watcher, thread)
            if number >= 0:
                for name, value in zip(times, (first, saved, end), strict=True):
                    times[name].append(value * 1000)
            await asyncio.sleep(0.05)
    return times


@asynccontextmanager
async def _watching(origin: str, cookie: str, thread: Thread) -> AsyncIterator[Watcher]:
    uri = f"ws://{origin}/ws/agent/threads/{thread.pk}/"
    async with connect(uri, additional_headers={"Cookie": cookie}, origin=f"http://{origin}") as socket:  # type: ignore[arg-type]
        await socket.send('{"type":"attach"}')
        watcher = Watcher(socket)
        await watcher.wait(lambda frame: frame.get("type") == "attached")
        try:
            yield watcher
        finally:
            await watcher.stop()


async def _send(watcher: Watcher, thread: Thread) -> tuple[float, float]:
    """Send a message; return how long the first word took, and the end's way from the database to here."""
    began = time.perf_counter()
    run = await talker_agent.runs.asend(thread, FEW_WORDS, user=thread.owner)
    stream = f"run:{run.pk}"

    def of_run(kind: str) -> Callable[[Frame], bool]:
        return lambda frame: frame.get("stream") == stream and frame["event"]["type"] == kind

    here, _, _ = await watcher.wait(of_run("text.delta"))
    _, clock, done = await watcher.wait(of_run("done"))
    return here - began, clock - datetime.fromisoformat(done["event"]["ts"]).timestamp()


async def _save(watcher: Watcher, thread: Thread) -> float:
    """Save a message; return how long its way from the commit to here was."""
    key = f"note {time.perf_counter()}"
    committed = await sync_to_async(_saved)(thread, key)
    here, _, _ = await watcher.wait(lambda frame: key in json.dumps(frame))
    return here - committed


def _saved(thread: Thread, text: str) -> float:
    moments: list[float] = []
    with transaction.atomic():
        # The first hook, so that the clock starts before the hint goes out.
        transaction.on_commit(lambda: moments.append(time.perf_counter()))
        talker_agent.messages.save(thread, text, user=thread.owner)
    return moments[0]


def _thread_and_cookie() -> tuple[Thread, str]:
    """Make a thread of a user who is logged in, and return it with the cookie that says so."""
    user = get_user_model().objects.get(username=USERNAME)
    session = import_module(settings.SESSION_ENGINE).SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.create()
    thread = talker_agent.threads.create(user=user)
    return thread, f"{settings.SESSION_COOKIE_NAME}={session.session_key}"


if __name__ == "__main__":
    main()
