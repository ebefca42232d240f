"""What a log refuses."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from ..exceptions import Conflict, NotFound

__all__ = ["StreamBusy", "StreamClosed", "StreamMissing"]


class StreamBusy(Conflict):
    """Somebody else is writing to the stream at this moment."""

    code = "stream_busy"

    def __init__(self, stream_ids: Sequence[UUID]) -> None:
        super().__init__()
        self.stream_ids = frozenset(stream_ids)


class StreamMissing(NotFound):
    """There is no such stream to append to."""

    code = "stream_missing"


class StreamClosed(Conflict):
    """The stream is closed and takes no more records."""

    code = "stream_closed"
