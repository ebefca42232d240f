"""W1 with the standard library's sqlite3 alone: WAL, synchronous=FULL, one writer thread."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from benchmarks import w1
from benchmarks.subject import Bare, check_texts, database_url, main

TABLES = """
CREATE TABLE IF NOT EXISTS run (id integer PRIMARY KEY, status text NOT NULL, output text);
CREATE TABLE IF NOT EXISTS message (
    id integer PRIMARY KEY, run integer NOT NULL, author text NOT NULL, body text NOT NULL);
CREATE TABLE IF NOT EXISTS step (
    run integer, number int, kind text NOT NULL, result text NOT NULL, PRIMARY KEY (run, number));
CREATE TABLE IF NOT EXISTS event (run integer, seq int, body text NOT NULL, PRIMARY KEY (run, seq));
"""
SAID = "SELECT run, body FROM event WHERE run >= ? AND run < ? ORDER BY run, seq"
MESSAGE = "INSERT INTO message (run, author, body) VALUES (?, ?, ?)"
STEP = "INSERT INTO step VALUES (?, ?, ?, ?)"


class SqliteFloor(Bare):
    """The floor on SQLite, which has one writer at a time whatever is in flight."""

    connection: sqlite3.Connection
    thread: ThreadPoolExecutor

    async def open(self, in_flight: int) -> None:
        """Open the file on a thread of its own."""
        self.thread = ThreadPoolExecutor(1)
        await asyncio.get_running_loop().run_in_executor(self.thread, self._open)

    def _open(self) -> None:
        path = database_url().removeprefix("sqlite:///")
        self.connection = sqlite3.connect(path, isolation_level=None, timeout=30)
        self.connection.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; {TABLES}")

    async def run(self, number: int) -> str:
        """Write one run in five commits."""
        return await asyncio.get_running_loop().run_in_executor(self.thread, self._run, number)

    def _run(self, number: int) -> str:
        execute = self.connection.execute
        execute("BEGIN IMMEDIATE")
        execute("INSERT INTO run (id, status) VALUES (?, 'running')", (number,))
        execute(MESSAGE, (number, "user", w1.PROMPT))
        execute("COMMIT")
        call = {"id": w1.CALL_ID, "name": w1.TOOL, "arguments": w1.ARGUMENTS}
        execute(STEP, (number, 1, "model", json.dumps(call)))
        execute(STEP, (number, 2, "tool", w1.weather(**w1.ARGUMENTS)))
        text = "".join(w1.WORDS)
        execute("BEGIN IMMEDIATE")
        said = [(number, seq, word) for seq, word in enumerate(w1.WORDS)]
        self.connection.executemany("INSERT INTO event VALUES (?, ?, ?)", said)
        execute(STEP, (number, 3, "model", text))
        execute(MESSAGE, (number, "agent", text))
        execute("COMMIT")
        execute("UPDATE run SET status = 'done', output = ? WHERE id = ?", (text, number))
        return text

    async def close(self) -> None:
        """Close the file."""
        await asyncio.get_running_loop().run_in_executor(self.thread, self.connection.close)
        self.thread.shutdown()

    async def check(self, numbers: range) -> None:
        """See that every run has its 40 deltas."""
        with closing(sqlite3.connect(database_url().removeprefix("sqlite:///"))) as connection:
            found = connection.execute(SAID, (numbers.start, numbers.stop)).fetchall()
        said: dict[int, str] = {}
        for run, word in found:
            said[run] = said.get(run, "") + word
        check_texts(list(said.values()), len(numbers))


if __name__ == "__main__":
    main("floor: sqlite3", SqliteFloor())
