"""daphne, as the demo starts it: with a bound on the bodies that it keeps before the application is asked.

daphne hands a request on once it has all of it, in memory or on disk: the application's own limit comes too late.
"""

from __future__ import annotations

from typing import Any

from daphne.cli import CommandLineInterface
from daphne.http_protocol import WebRequest
from daphne.server import Server
from twisted.web.http import HTTPChannel

from .edge import MAX_BODY, MAX_READ


class BoundedRequest(WebRequest):  # type: ignore[misc]
    """A request of which one byte more is kept than the application takes: enough for it to refuse all of it."""

    received = 0

    def __init__(self, channel: HTTPChannel, queued: object) -> None:
        # Django reads forms; Twisted would too, all in memory, and answer a broken one before the application could.
        super().__init__(channel, queued, parsePOSTFormSubmission=False)

    def gotLength(self, length: int | None) -> None:
        """Take nothing of a body that is never read to its end: the application refuses the length it declares."""
        if length is not None and length > MAX_READ:
            length = self.channel.length = 0
            self.channel.persistent = False  # what comes next is that body, and no request
            self.responseHeaders.setRawHeaders(b"Connection", [b"close"])
        super().gotLength(length)

    def handleContentChunk(self, data: bytes) -> None:
        """Keep what the application may take, and close the connection that sends without end."""
        super().handleContentChunk(data[: max(0, MAX_BODY + 1 - self.received)])
        self.received += len(data)
        if self.received > MAX_READ:
            self.transport.abortConnection()


class BoundedChannel(HTTPChannel):
    """A connection whose requests are bounded."""

    def connectionMade(self) -> None:
        """Name the class of requests, after daphne has named its own."""
        self.requestFactory = BoundedRequest
        super().connectionMade()


class BoundedServer(Server):  # type: ignore[misc]
    """A daphne whose connections are bounded."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, ready_callable=self.bound_connections, **options)

    def bound_connections(self) -> None:
        """Called when it listens and has taken no connection yet."""
        self.http_factory.protocol = BoundedChannel


class BoundedDaphne(CommandLineInterface):  # type: ignore[misc]
    """daphne's command line, for such a server."""

    server_class = BoundedServer


if __name__ == "__main__":
    BoundedDaphne.entrypoint()
