"""Values that no store takes, and what is kept of each."""

from __future__ import annotations

import math
from typing import Any

import pytest

TEXTS = {
    "nul": ("a\x00b", "a\ufffdb"),
    "surrogate": ("a\ud800b", "a\ufffdb"),
    "half at the end": ("ab\udc00", "ab\ufffd"),
}
VALUES: dict[str, tuple[Any, Any]] = {
    **TEXTS,
    "nul in a key": ({"k\x00": 1}, {"k\ufffd": 1}),
    "surrogate in a key": ({"k\ud800": 1}, {"k\ufffd": 1}),
    "nan": (math.nan, "NaN"),
    "infinity": (math.inf, "Infinity"),
    "1e400": (float("1e400"), "Infinity"),
    "minus zero": (-0.0, 0),
    "huge": (2**64, 2**64),
    "5000 digits": (10**5000, hex(10**5000)),
}
texts = pytest.mark.parametrize(("raw", "kept"), TEXTS.values(), ids=TEXTS)
"""What is said, and what is kept of it."""
values = pytest.mark.parametrize(("raw", "kept"), VALUES.values(), ids=VALUES)
"""What is given, and what is kept of it."""


def nested(depth: int, value: Any = "bottom") -> Any:
    """The value in so many lists."""
    for _ in range(depth):
        value = [value]
    return value
