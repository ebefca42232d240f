"""How far a request to a server has come: what is said of a call that failed depends on nothing else."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass
class Sending:
    """One request on its way: the transport notes here what becomes of it."""

    has_begun: bool = False
    """Whether the server may have read it, whole."""
    status: int | None = None
    """The status of the HTTP answer, once there is one."""
    on_begin: Callable[[], None] | None = None
    """What is called when that becomes possible; where it raises, the request is not sent."""

    def begin(self) -> None:
        """Note that from now on the server may read it."""
        if self.on_begin is not None:
            self.on_begin()
        self.has_begun = True

    def has_not_arrived(self, *, is_modern: bool) -> bool:
        """Whether the server has surely not acted on it: it was not sent, or was refused before it was looked into.

        Since the version of 2026, an error that a tool has answered with may have the status 400, too.
        """
        if not self.has_begun:
            return True
        return self.status is not None and 300 <= self.status < 500 and not (is_modern and self.status == 400)


SENDING: ContextVar[Sending | None] = ContextVar("agentcore_mcp_sending", default=None)
"""The request that this code is a part of. The SDK sends each message in the context of whoever asked for it."""
