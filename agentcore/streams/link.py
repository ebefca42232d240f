"""A hub's link to the channel layer: one channel, in the one group that hears all hints, and one receive loop.

Everything it does may fail or stall, and nothing depends on it but latency.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol
from uuid import UUID

from ..values.logextra import log_extra
from .publisher import Hint
from .wire import GROUP, decode

__all__ = ["Layer", "Link"]

logger = logging.getLogger("agentcore.streams")

PAUSE_SECONDS = (0.5, 1.0, 2.0, 5.0)
REJOIN_SECONDS = 60.0
"""The membership is renewed this often: a layer that keeps it in Redis loses it to a flush or to its expiry."""
LEAVE_SECONDS = 2.0
STABLE_SECONDS = 30.0


class Layer(Protocol):
    """The part of a channel layer that is used here."""

    async def new_channel(self, prefix: str = ...) -> str: ...
    async def receive(self, channel: str) -> dict[str, Any]: ...
    async def group_add(self, group: str, channel: str) -> None: ...
    async def group_discard(self, group: str, channel: str) -> None: ...
    async def group_send(self, group: str, message: dict[str, Any]) -> None: ...


class Link:
    """Keeps a channel in the group, and passes on the hints of watched streams."""

    def __init__(
        self,
        layer: Layer,
        watched: Mapping[bytes, UUID],
        on_join: Callable[[], None],
        on_hints: Callable[[Sequence[Hint]], None],
    ) -> None:
        self.joined = False
        """Whether hints get here, for all that is known."""
        self._layer = layer
        self._watched = watched
        self._on_join = on_join
        self._on_hints = on_hints

    async def run(self) -> None:
        """Stay linked until cancelled; after an error, start again on a new channel."""
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            began = loop.time()
            try:
                await self._session()
            except Exception as error:
                _complain("no channel layer", error, failures)
            if loop.time() - began > STABLE_SECONDS:
                failures = 0
            await asyncio.sleep(_pause(failures))
            failures += 1

    async def _session(self) -> None:
        channel = await self._layer.new_channel("agentcore.hub")
        membership = asyncio.create_task(self._keep_joined(channel))
        try:
            while True:
                hints = decode(await self._layer.receive(channel), self._watched)
                if hints:
                    self._on_hints(hints)
        finally:
            membership.cancel()
            await asyncio.gather(membership, return_exceptions=True)
            await self._leave(channel)

    async def _keep_joined(self, channel: str) -> None:
        failures = 0
        while True:
            try:
                await self._layer.group_add(GROUP, channel)
            except Exception as error:
                _complain("cannot join the group", error, failures)
                await asyncio.sleep(_pause(failures))
                failures += 1
                continue
            failures = 0
            self.joined = True
            # What was announced while this channel was no member was not announced to us.
            self._on_join()
            await asyncio.sleep(REJOIN_SECONDS)

    async def _leave(self, channel: str) -> None:
        # A layer in this process would otherwise remember the dead channel for ever.
        self.joined = False
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                await self._layer.group_discard(GROUP, channel)
        except Exception as error:
            logger.debug("cannot leave the group (%r)", error, extra=log_extra("link"))


def _complain(what: str, error: Exception, failures: int) -> None:
    level = logging.WARNING if failures == 0 else logging.DEBUG
    logger.log(level, "%s (%r); polling meanwhile", what, error, extra=log_extra("link"))


def _pause(failures: int) -> float:
    return PAUSE_SECONDS[min(failures, len(PAUSE_SECONDS) - 1)]
