"""A hub's link to the channel layer: one channel, a group per watched stream, one receive loop.

Everything it does may fail or stall, and nothing depends on it but latency.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any, Protocol
from uuid import UUID

from .hints import Hint

__all__ = ["Layer", "Link", "decode", "encode", "group_name"]

logger = logging.getLogger("agentcore.streams")

MESSAGE_TYPE = "stream.hint"
PAUSE_SECONDS = (0.5, 1.0, 2.0, 5.0)
REJOIN_SECONDS = 60.0
"""Memberships are renewed this often: a layer that keeps them in Redis loses them to a flush or to their expiry."""
LEAVE_SECONDS = 2.0
STABLE_SECONDS = 30.0


class Layer(Protocol):
    """The part of a channel layer that is used here."""

    async def new_channel(self, prefix: str = ...) -> str: ...
    async def receive(self, channel: str) -> dict[str, Any]: ...
    async def group_add(self, group: str, channel: str) -> None: ...
    async def group_discard(self, group: str, channel: str) -> None: ...
    async def group_send(self, group: str, message: dict[str, Any]) -> None: ...


def group_name(stream_id: UUID) -> str:
    """Return the name of the group that hears of a stream."""
    return f"agentcore.stream.{stream_id.hex}"


def encode(hint: Hint) -> dict[str, Any]:
    """Return the layer's message for a hint."""
    return {
        "type": MESSAGE_TYPE,
        "stream": str(hint.stream_id),
        "first_seq": hint.first_seq,
        "next_seq": hint.next_seq,
        "frames": list(hint.frames),
    }


def decode(message: dict[str, Any]) -> Hint | None:
    """Return the hint in a layer's message, None if it is none of ours."""
    try:
        frames = tuple(bytes(frame) for frame in message["frames"])
        return Hint(UUID(message["stream"]), int(message["first_seq"]), int(message["next_seq"]), frames)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


class Link:
    """Keeps the channel's memberships equal to the streams that are watched, and passes hints on."""

    def __init__(
        self,
        layer: Layer,
        wanted: Callable[[], Collection[UUID]],
        on_join: Callable[[UUID], None],
        on_hint: Callable[[Hint], None],
    ) -> None:
        self._layer = layer
        self._wanted = wanted
        self._on_join = on_join
        self._on_hint = on_hint
        self._joined: set[UUID] = set()
        self._changed = asyncio.Event()

    def review(self) -> None:
        """Say that the set of watched streams has changed."""
        self._changed.set()

    async def run(self) -> None:
        """Stay linked until cancelled; after an error, start again on a new channel."""
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            began = loop.time()
            try:
                await self._session()
            except Exception as error:
                level = logging.WARNING if failures == 0 else logging.DEBUG
                logger.log(level, "no channel layer (%r); polling meanwhile", error, extra={"action": "link"})
            if loop.time() - began > STABLE_SECONDS:
                failures = 0
            await asyncio.sleep(PAUSE_SECONDS[min(failures, len(PAUSE_SECONDS) - 1)])
            failures += 1

    async def _session(self) -> None:
        channel = await self._layer.new_channel("agentcore.hub")
        members = asyncio.create_task(self._keep_members(channel))
        try:
            while True:
                hint = decode(await self._layer.receive(channel))
                if hint is not None:
                    self._on_hint(hint)
        finally:
            members.cancel()
            await asyncio.gather(members, return_exceptions=True)
            await self._leave(channel)

    async def _keep_members(self, channel: str) -> None:
        loop = asyncio.get_running_loop()
        renew_at = loop.time() + REJOIN_SECONDS
        failures = 0
        while True:
            self._changed.clear()
            if loop.time() >= renew_at:
                self._joined.clear()
                renew_at = loop.time() + REJOIN_SECONDS
            try:
                await self._reconcile(channel)
            except Exception as error:
                level = logging.WARNING if failures == 0 else logging.DEBUG
                logger.log(level, "cannot join a group (%r); polling meanwhile", error, extra={"action": "link"})
                await asyncio.sleep(PAUSE_SECONDS[min(failures, len(PAUSE_SECONDS) - 1)])
                failures += 1
                continue
            failures = 0
            with suppress(TimeoutError):
                # Not wait_for(): before Python 3.12 it swallows a cancellation that coincides with the event.
                async with asyncio.timeout_at(renew_at):
                    await self._changed.wait()

    async def _reconcile(self, channel: str) -> None:
        for stream_id in set(self._wanted()) - self._joined:
            await self._layer.group_add(group_name(stream_id), channel)
            self._joined.add(stream_id)
            # What was written before the group was joined was never announced to us.
            self._on_join(stream_id)
        for stream_id in self._joined - set(self._wanted()):
            self._joined.discard(stream_id)
            await self._layer.group_discard(group_name(stream_id), channel)

    async def _leave(self, channel: str) -> None:
        # A layer in this process would otherwise remember the dead channel for ever.
        joined, self._joined = self._joined, set()
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                for stream_id in joined:
                    await self._layer.group_discard(group_name(stream_id), channel)
        except Exception as error:
            logger.debug("cannot leave a group (%r)", error, extra={"action": "link"})
