"""The processes of the soak: workers of both kinds, sweepers and a web server, replaced when they are gone."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field

from agentcore.testing import FaultProxy
from supportdemo.servers import free_port
from tests.faults.runs import settings_of_process
from tests.stack import Process, Stack

SETTINGS = {
    "LEASE_SECONDS": 2,
    "SWEEP_SECONDS": 0.5,
    "HINT_GRACE_SECONDS": 1,
    "POLL_SECONDS": 1,
    "DRAIN_SECONDS": 2,
    "SLICE_SECONDS": 3,
    "FAILPOINTS": True,
}
DRAIN_SECONDS = 10.0


@dataclass
class Post:
    """A place that is always to be filled by a process of one kind, with the environment of that place."""

    kind: str
    env: dict[str, str]
    process: Process | None = None
    frozen: bool = False
    ready: bool = False

    @property
    def at_work(self) -> bool:
        """Whether its process lives and is ready."""
        if self.process is None or not self.process.alive or self.frozen:
            return False
        self.ready = self.ready or "istening on" in self.process.text
        return self.ready


@dataclass
class Crew:
    """All the processes, by their posts."""

    stack: Stack
    database: FaultProxy
    redis: FaultProxy
    posts: list[Post] = field(default_factory=list)
    leaving: list[tuple[Process, float]] = field(default_factory=list)
    web_port: int = field(default_factory=free_port)
    web: Process | None = None
    sweeper: Process | None = None

    def hire(self) -> None:
        """Start six workers: some reach the database or Redis directly, some through the proxies."""
        common = settings_of_process(**SETTINGS)
        through_both = {"DATABASE_URL": self.database.url, "REDIS_URL": self.redis.url}
        for kind, env in (
            ("concurrent", {}),
            ("concurrent", {"DATABASE_URL": self.database.url}),
            ("concurrent", through_both),
            ("stock", {}),
            ("stock", {"DATABASE_URL": self.database.url}),
            ("stock", {"REDIS_URL": self.redis.url}),
        ):
            self.posts.append(Post(kind, {**common, **env}))
        self.refill()

    @property
    def origin(self) -> str:
        """Where the web server is found, whichever process it is."""
        return f"http://127.0.0.1:{self.web_port}"

    def refill(self) -> None:
        """Fill every empty post, and see off who does not leave by itself."""
        for post in self.posts:
            if post.process is None or not post.process.alive:
                self.replace(post)
        common = settings_of_process(**SETTINGS)
        if self.sweeper is None or not self.sweeper.alive:
            self.sweeper = self.stack.sweeper(**common)
        if self.web is None or not self.web.alive:
            words = ["--host", "127.0.0.1", "--port", str(self.web_port), "--lifespan", "off", "tests.asgi:application"]
            self.web = self.stack.start("web", [sys.executable, "-m", "uvicorn", *words], **common)
        for process, since in list(self.leaving):
            if process.alive and time.monotonic() - since > DRAIN_SECONDS:
                process.kill9()
            if not process.alive:
                self.leaving.remove((process, since))

    def replace(self, post: Post) -> None:
        """Put a new process on a post; who was there is nobody's concern any more."""
        post.process, post.frozen, post.ready = self.stack.worker(post.kind, **post.env), False, False

    def relieve(self, post: Post) -> None:
        """Ask the process of a post to finish, and put another there at once: a rolling restart."""
        assert post.process is not None
        post.process.ask_to_finish()
        self.leaving.append((post.process, time.monotonic()))
        self.replace(post)
