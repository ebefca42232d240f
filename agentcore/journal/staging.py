"""What a run has to say that is not committed yet: it goes with the next thing that must be.

The end of one step and the beginning of the next are one transaction, and so are a
claim and its first step. What has an effect outside the database, a model call or
a tool's body, begins only after `commit` has returned.
"""

from __future__ import annotations

import asyncio
import time

from ..database.outage import is_outage
from ..exceptions import LeaseLost
from ..failpoints import afailpoint
from .claim import Claim, Take
from .commit import Commit, combined
from .heartbeat import Watch
from .row import Allocation
from .writer import Journal


class Staged:
    """The entries of one claim, in order; they stay staged until a commit that holds them has succeeded."""

    def __init__(self, journal: Journal, watch: Watch, take: Take) -> None:
        self._journal = journal
        self._watch = watch
        self._take: Take | None = take
        self._entries: list[Commit] = []
        self._points: list[str] = []
        self._under_way: set[asyncio.Future[Allocation]] = set()
        self._lost: BaseException | None = None

    @property
    def claim(self) -> Claim:
        """The claim under which it commits."""
        return self._watch.claim

    @property
    def claimed(self) -> bool:
        """Whether the claim was made."""
        return self._take is None

    def add(self, *entries: Commit, point: str = "") -> None:
        """Stage entries; a test may act at `point` once they are committed."""
        self._entries.extend(entries)
        self._points += [point] if point else []

    def forget(self) -> None:
        """Drop what is staged."""
        self._entries.clear()

    async def commit(self, *entries: Commit) -> None:
        """Commit what is staged and then `entries`, together; where that fails, only what was staged is kept.

        Raises what `Journal.send` says.
        """
        if self._take is not None and self._entries and any(entry.run for entry in entries):
            await self.commit()  # the statement that makes a claim sets the claim's own columns
        if self._entries or entries:
            points, self._points = self._points, []
            await asyncio.shield(self.send(*entries))
            for point in points:
                await afailpoint(point)

    def send(self, *entries: Commit) -> asyncio.Future[Allocation]:
        """Do what `commit` does without waiting; entries that are sent are written in the order of sending."""
        if self._lost is not None:
            refused: asyncio.Future[Allocation] = asyncio.get_running_loop().create_future()
            refused.set_exception(self._lost)
            return refused
        began, staged = time.monotonic(), len(self._entries)
        answer = self._journal.send(self.claim, combined([*self._entries, *entries]), self._take)
        self._under_way.add(answer)
        self._watch.sending += 1

        def arrived(answer: asyncio.Future[Allocation]) -> None:
            self._under_way.discard(answer)
            self._watch.sending -= 1
            if not answer.cancelled() and answer.exception() is None:
                del self._entries[:staged]
                self._take = None
                self._watch.committed(began, answer.result())

        answer.add_done_callback(arrived)
        return answer

    def failed(self, answer: asyncio.Future[Allocation]) -> None:
        """Break the work off: an entry that nobody waits for was not written, so nothing that follows it may be."""
        error = None if answer.cancelled() else answer.exception()
        if error is None:
            return
        for later in self._under_way:
            if not later.done():
                later.set_exception(error)
        if isinstance(error, LeaseLost) or is_outage(error):
            self._lost = error
        self._watch.interrupt(error)

    async def settled(self) -> None:
        """Wait until everything sent so far was committed or refused."""
        while self._under_way:
            await asyncio.wait(set(self._under_way))
