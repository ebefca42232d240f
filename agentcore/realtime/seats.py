"""How many sockets each user has open in this process."""

from __future__ import annotations

from collections import Counter
from typing import Any

__all__ = ["Seats"]


class Seats:
    """Counts sockets by user; who has as many as are allowed gets no further one."""

    def __init__(self) -> None:
        self._taken: Counter[Any] = Counter()

    def reserve(self, user_id: Any, limit: int) -> bool:
        """Reserve a seat; False where the user has none left."""
        if self._taken[user_id] >= limit:
            return False
        self._taken[user_id] += 1
        return True

    def release(self, user_id: Any) -> None:
        """Release a seat."""
        self._taken[user_id] -= 1
        if self._taken[user_id] <= 0:
            del self._taken[user_id]
