"""Which rows of the suite a make target takes: a row is a test on one database and, maybe, with one kind of worker.

`make test` takes every test on PostgreSQL, every second one on SQLite too, and all that are for one database only; each
with some of its parameters: with every tenth on PostgreSQL, else with every third. Of the tests that start processes,
which cost seconds, about faults, in a browser or of the documentation's pages, it takes every tenth of each file, on
PostgreSQL with the concurrent worker; and a sample of the other combinations. `make faults` takes all others, the tests
marked `longer`, and a second sample. `make matrix` takes every fault row. What is marked `once` knows no database and
is in the SQLite pass only, what is marked `postgres` in the other. The samples are the same every time.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

TARGETS = ("test", "faults", "matrix")
ONE_IN = 6
"""The part of the other combinations that each of the two samples takes."""
EARLY_ONE_IN = 3
"""The part of a test's parameters that `make test` takes, the first always; `make faults` has the others."""
SECOND_DATABASE_ONE_IN = 2
"""The part of the tests for both databases that `make test` takes on SQLite, after PostgreSQL."""
EARLY_ONE_IN_OF_COSTLY = 10
"""The same on PostgreSQL, where a row's commits are slower, and of a file's rows that start processes."""


@dataclass(frozen=True)
class Row:
    """A test on one database; `kinds` says of how many kinds of worker `kind` is one, none of them for 0.

    `number` counts the rows of a test, or where these start processes, the rows of a file that are of one kind.
    """

    name: str
    on_postgres: bool
    fault: bool = True
    once: bool = False
    only_postgres: bool = False
    longer: bool = False
    kind: int = 0
    kinds: int = 0
    number: int = 0
    sampled: bool = False
    """Whether its combinations are worth a sample only: it starts processes, and so costs seconds."""

    @property
    def lot(self) -> int:
        """A number that is the same every time, and for every row of a test."""
        return zlib.crc32(self.name.encode())

    @property
    def again(self) -> bool:
        """Whether it is on SQLite what is on PostgreSQL too."""
        return not (self.on_postgres or self.once or self.sampled)

    @property
    def first(self) -> bool:
        """Whether this is the row a test is run as if it is run as one only."""
        return self.kind == 0 and (self.on_postgres or self.once)


def is_taken(row: Row, target: str) -> bool:
    """Whether the target takes the row."""
    if target == "matrix":
        return row.fault
    if row.longer:
        return target == "faults" and (row.first or not row.sampled)
    if row.first or not row.sampled:
        costly = row.sampled or (row.on_postgres and not row.only_postgres)
        early = row.number % (EARLY_ONE_IN_OF_COSTLY if costly else EARLY_ONE_IN) == 0
        if row.again:
            early = early and row.lot % SECOND_DATABASE_ONE_IN == 0
        return target == ("test" if early else "faults")
    return _sample(row) == ("test", "faults").index(target)


def _sample(row: Row) -> int | None:
    """Which of the two samples the row is in; a row that is first in nothing may be in none."""
    kinds = max(1, row.kinds)
    place = row.lot % ONE_IN - (0 if row.on_postgres else 2)
    if place not in (0, 1):
        return None
    # On SQLite with one kind or the other; on PostgreSQL the first kind is taken anyway.
    if not row.on_postgres and row.lot // ONE_IN % kinds != row.kind:
        return None
    return place
