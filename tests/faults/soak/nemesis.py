"""What happens to the soak: a fault every 100 to 300 ms, drawn from a seed, and mended after its time."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import psycopg
import redis
from django.db import connections

from agentcore.testing import FaultProxy
from tests.faults import postgres
from tests.faults.soak.crew import SETTINGS, Crew, Post
from tests.stack import Process

LEASE = float(SETTINGS["LEASE_SECONDS"])
FEWEST_AT_WORK = 4
KEPT = 20
NOT_NOW = (psycopg.Error, redis.RedisError, OSError)


@dataclass
class Fault:
    """One kind of fault: how often it is drawn against the others, and how many seconds lie between two of it."""

    name: str
    weight: int
    act: Callable[[], bool]
    pause: float = 0.0
    last: float = -1e9


@dataclass(frozen=True)
class Mending:
    """What puts an end to a fault, when its time has come."""

    due: float
    act: Callable[[], None]


class Nemesis:
    """Draws faults; a drawing that fits nobody just then is drawn again. Keep it on one thread: it starts processes."""

    def __init__(self, seed: int, crew: Crew) -> None:
        self.random = random.Random(f"{seed} nemesis")
        self.crew = crew
        self.began = time.monotonic()
        self.happened: deque[str] = deque(maxlen=KEPT)
        self.counts: dict[str, int] = {}
        self._mendings: list[Mending] = []
        self._busy: set[object] = set()
        self.faults = [
            Fault("kill -9 of a worker", 6, self._kill, 0.5),
            Fault("kill -9 of a horse", 4, self._kill_horse),
            Fault("kill -9 of an rq parent", 2, self._kill_parent, 5),
            Fault("rolling restart of a worker", 3, self._relieve, 2),
            # Mostly as long as another worker needs to take over, and no longer: then two of them write at once.
            Fault("freeze beyond the lease", 9, lambda: self._freeze(1.3, 2.2), 0.5),
            Fault("freeze far beyond the lease", 2, lambda: self._freeze(2.2, 4.0), 3),
            Fault("freeze within the lease", 4, lambda: self._freeze(0.1, 0.7)),
            Fault("end of one session", 8, self._end_session),
            Fault("end of all sessions", 1, self._end_all_sessions, 8),
            Fault("immediate restart of PostgreSQL", 1, self._restart_postgres, 20),
            Fault("a run's row is held", 8, self._hold_row),
            Fault("FLUSHALL", 4, lambda: self._redis("FLUSHALL"), 1),
            Fault("CLIENT KILL", 4, lambda: self._redis("CLIENT", "KILL", "TYPE", self._client_type())),
            Fault("CLIENT PAUSE", 2, lambda: self._redis("CLIENT", "PAUSE", str(self.random.randint(100, 2000))), 3),
            Fault("restart of Redis", 1, self._restart_redis, 12),
            Fault("freeze of Redis", 1, self._freeze_redis, 10),
            Fault("database: reset", 3, lambda: self._proxy(self.crew.database, "reset", 0.3)),
            Fault("database: cut on COMMIT", 6, lambda: self._proxy(self.crew.database, "cut_on_commit", 1, times=1)),
            Fault("database: cut before COMMIT", 4, lambda: self._proxy(self.crew.database, "cut_before_commit", 1)),
            Fault("database: black hole", 2, lambda: self._proxy(self.crew.database, "blackhole", 4), 6),
            Fault("database: delay", 3, lambda: self._proxy(self.crew.database, "delay", 2, seconds=0.05)),
            Fault("database: cut in an answer", 3, self._cut_answer),
            Fault("Redis: reset", 3, lambda: self._proxy(self.crew.redis, "reset", 0.5)),
            Fault("Redis: black hole", 2, lambda: self._proxy(self.crew.redis, "blackhole", 4), 6),
            Fault("kill -9 of the web process", 1, lambda: self._kill_process(self.crew.web), 15),
            Fault("kill -9 of the sweeper", 1, lambda: self._kill_process(self.crew.sweeper), 5),
        ]

    def rage(self, seconds: float) -> None:
        """Let faults happen for so long."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(self.random.uniform(0.1, 0.3))
            self._mend(time.monotonic())
            self._strike()
            self.crew.refill()

    def calm(self) -> None:
        """Put an end to every fault."""
        self._mend(float("inf"))
        for proxy in (self.crew.database, self.crew.redis):
            proxy.ok()
        self.crew.refill()
        connections.close_all()  # what this thread had open was cut off with everybody else's

    def _strike(self) -> None:
        for _ in range(20):
            now = time.monotonic()
            due = [fault for fault in self.faults if now - fault.last >= fault.pause]
            (fault,) = self.random.choices(due, [fault.weight for fault in due])
            try:
                struck = fault.act()
            except NOT_NOW:
                struck = False  # what it needs is away: that is fault enough
            if struck:
                fault.last = now
                self.counts[fault.name] = self.counts.get(fault.name, 0) + 1
                self.happened.append(f"{now - self.began:7.2f} s  {fault.name}")
                return

    def _mend(self, now: float) -> None:
        due = [item for item in self._mendings if item.due <= now]
        self._mendings = [item for item in self._mendings if item.due > now]
        for item in due:
            item.act()

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        self._mendings.append(Mending(time.monotonic() + seconds, act))

    # --- processes ------------------------------------------------------------------------------------------------

    def _somebody(self, kind: str = "") -> Post | None:
        """A worker to strike, while enough others are at work."""
        at_work = [post for post in self.crew.posts if post.at_work]
        found = [post for post in at_work if post.kind == kind or not kind]
        return self.random.choice(found) if found and len(at_work) > FEWEST_AT_WORK else None

    def _kill(self) -> bool:
        post = self._somebody()
        if post is None or post.process is None:
            return False
        post.process.kill9()
        return True

    def _kill_parent(self) -> bool:
        post = self._somebody("stock")
        if post is None or post.process is None or not post.process.children():
            return False
        post.process.kill9_alone()
        return True

    def _kill_horse(self) -> bool:
        post = self._somebody("stock")
        horses = post.process.children() if post is not None and post.process is not None else []
        if not horses:
            return False
        os.kill(horses[0], signal.SIGKILL)
        return True

    def _kill_process(self, process: Process | None) -> bool:
        if process is None or not process.alive:
            return False
        process.kill9()
        return True

    def _relieve(self) -> bool:
        post = self._somebody()
        if post is None:
            return False
        self.crew.relieve(post)
        return True

    def _freeze(self, least: float, most: float) -> bool:
        post = self._somebody()
        if post is None or post.process is None:
            return False
        process = post.process
        process.freeze()
        post.frozen = True

        def thaw() -> None:
            process.thaw()
            if post.process is process:
                post.frozen = False

        self._later(LEASE * self.random.uniform(least, most), thaw)
        return True

    # --- PostgreSQL -----------------------------------------------------------------------------------------------

    def _end_session(self) -> bool:
        with postgres.session() as admin:
            found = admin.execute(f"SELECT pid FROM pg_stat_activity WHERE {postgres.OTHERS} ORDER BY pid").fetchall()
            if found:
                admin.execute("SELECT pg_terminate_backend(%s)", self.random.choice(found))
            return bool(found)

    def _end_all_sessions(self) -> bool:
        with postgres.session() as admin:
            admin.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {postgres.OTHERS}")
        return True

    def _restart_postgres(self) -> bool:
        postgres.restart()
        return True

    def _hold_row(self) -> bool:
        """Lock a live run's row as somebody's slow transaction would."""
        admin = postgres.session()
        admin.autocommit = False
        rows = "SELECT id FROM agentcore_run WHERE status IN ('pending', 'running', 'waiting') ORDER BY id"
        found = admin.execute(rows).fetchall()
        if not found:
            admin.close()
            return False
        admin.execute("SELECT 1 FROM agentcore_run WHERE id = %s FOR UPDATE SKIP LOCKED", self.random.choice(found))
        self._later(self.random.uniform(0.1, 1.5), admin.close)
        return True

    # --- Redis ----------------------------------------------------------------------------------------------------

    def _redis(self, *command: str) -> bool:
        server = self.crew.stack.redis
        assert server is not None
        with redis.Redis.from_url(server.url, socket_timeout=1, socket_connect_timeout=1, retry=None) as client:
            client.execute_command(*command)
        return True

    def _client_type(self) -> str:
        return self.random.choice(("normal", "pubsub"))

    def _restart_redis(self) -> bool:
        self.crew.stack.stop_redis()
        self.crew.stack.start_redis()
        return True

    def _freeze_redis(self) -> bool:
        server = self.crew.stack.redis
        assert server is not None
        server.process.send_signal(signal.SIGSTOP)
        time.sleep(self.random.uniform(0.2, 1.5))
        server.process.send_signal(signal.SIGCONT)
        return True

    # --- the network ----------------------------------------------------------------------------------------------

    def _proxy(self, proxy: FaultProxy, fault: str, most: float, **options: float) -> bool:
        """Set a fault on a proxy that has none, for a time of at most `most` seconds."""
        if proxy in self._busy:
            return False
        getattr(proxy, fault)(**options)
        self._busy.add(proxy)

        def heal() -> None:
            proxy.ok()
            self._busy.discard(proxy)

        self._later(self.random.uniform(0.1, most), heal)
        return True

    def _cut_answer(self) -> bool:
        return self._proxy(self.crew.database, "cut_after", 1, size=self.random.randint(200, 20_000), times=2)
