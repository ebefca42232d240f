"""Names of a server's tools, as every provider takes them: each the same in every process, and no two alike."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from ..values import jsontext

LONGEST = 64
MARK = 8
OTHERS = re.compile(r"[^a-z0-9_]")


def named(names: Iterable[str], prefix: str) -> dict[str, str]:
    """Return the name of each of a server's tools, by the name that its server gives it.

    It is the server's, behind the prefix, where that is up to 64 of a–z, 0–9 and _. Otherwise what does not fit is
    replaced, and where that makes two alike, or too long, or leaves nothing, a mark of the server's name is added.
    """
    given = list(dict.fromkeys(names))
    plain = {name: _plain(name, prefix) for name in given}
    how_many = Counter(plain.values())
    return {
        name: made if _fits(made) and (how_many[made] == 1 or made == _joined(prefix, name)) else _marked(name, made)
        for name, made in plain.items()
    }


def _joined(prefix: str, name: str) -> str:
    return f"{prefix}_{name}" if prefix else name


def _plain(name: str, prefix: str) -> str:
    return _joined(prefix, OTHERS.sub("_", name.lower()))


def _fits(made: str) -> bool:
    return len(made) <= LONGEST and made.strip("_") != ""


def _marked(name: str, made: str) -> str:
    return f"{made[: LONGEST - MARK - 1].rstrip('_')}_{jsontext.digest(name)[:MARK]}".lstrip("_")
