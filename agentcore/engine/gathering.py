"""Ask for many at once: what is asked for while one answer is under way makes up the next question."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

MOST_AT_ONCE = 100


class Gathering(Generic[K, V]):
    """One kind of question to the database, for one event loop; `answer` takes the keys and returns what it found."""

    def __init__(self, run: Callable[..., Awaitable[Any]], answer: Callable[[Sequence[K]], Mapping[K, V]]) -> None:
        self._run = run
        self._answer = answer
        self._waiting: dict[K, asyncio.Future[V | None]] = {}
        self._asking: asyncio.Task[None] | None = None

    async def get(self, key: K) -> V | None:
        """Return what there is for a key, None where there is nothing."""
        waiting = self._waiting.get(key)
        if waiting is None:
            waiting = self._waiting[key] = asyncio.get_running_loop().create_future()
            if self._asking is None or self._asking.done():
                self._asking = asyncio.create_task(self._ask(), name="agentcore-gathering")
        return await asyncio.shield(waiting)

    async def _ask(self) -> None:
        while self._waiting:
            keys = list(self._waiting)[:MOST_AT_ONCE]
            asked = [self._waiting.pop(key) for key in keys]
            try:
                found = await self._run(self._answer, keys)
            except BaseException as error:  # noqa: BLE001 - whoever waits for it raises it
                for waiting in asked:
                    waiting.set_exception(error)
                    waiting.exception()  # somebody may have stopped waiting
                continue
            for key, waiting in zip(keys, asked, strict=True):
                waiting.set_result(found.get(key))
