"""What a log refuses."""

from __future__ import annotations

from ..exceptions import Conflict, NotFound

__all__ = ["StreamClosed", "StreamMissing"]


class StreamMissing(NotFound):
    """There is no such stream to append to."""

    code = "stream_missing"


class StreamClosed(Conflict):
    """The stream is closed and takes no more records."""

    code = "stream_closed"
