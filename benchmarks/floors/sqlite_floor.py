"""The workloads with the standard library's sqlite3 alone: WAL, synchronous=FULL, one writer thread."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from benchmarks.subject import Bare, check_texts, database_url, main
from benchmarks.workload import PROMPT, TOOL, weather

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
        """Write one run in its commits."""
        return await asyncio.get_running_loop().run_in_executor(self.thread, self._run, number)

    def _run(self, number: int) -> str:
        execute = self.connection.execute
        execute("BEGIN IMMEDIATE")
        execute("INSERT INTO run (id, status) VALUES (?, 'running')", (number,))
        execute(MESSAGE, (number, "user", PROMPT))
        execute("COMMIT")
        step = 1
        for turn in range(1, self.workload.rounds + 1):
            asked = self.workload.asked(turn)
            calls = [{"id": call.id, "name": TOOL, "arguments": call.arguments} for call in asked]
            execute(STEP, (number, step, "model", json.dumps(calls)))
            results = [json.dumps(weather(**call.arguments)) for call in asked]
            execute("BEGIN IMMEDIATE")
            self.connection.executemany(
                STEP, [(number, step + place, "tool", result) for place, result in enumerate(results, 1)]
            )
            execute("COMMIT")
            step += 1 + len(results)
        text = "".join(self.workload.words)
        execute("BEGIN IMMEDIATE")
        said = [(number, seq, delta) for seq, delta in enumerate(self.workload.deltas)]
        self.connection.executemany("INSERT INTO event VALUES (?, ?, ?)", said)
        execute(STEP, (number, step, "model", text))
        execute(MESSAGE, (number, "agent", text))
        execute("COMMIT")
        execute("UPDATE run SET status = 'done', output = ? WHERE id = ?", (text, number))
        return text

    async def close(self) -> None:
        """Close the file."""
        await asyncio.get_running_loop().run_in_executor(self.thread, self.connection.close)
        self.thread.shutdown()

    async def check(self, numbers: range) -> None:
        """See that every run has its deltas."""
        with closing(sqlite3.connect(database_url().removeprefix("sqlite:///"))) as connection:
            found = connection.execute(SAID, (numbers.start, numbers.stop)).fetchall()
        said: dict[int, str] = {}
        for run, delta in found:
            said[run] = said.get(run, "") + delta
        check_texts(list(said.values()), len(numbers), self.workload.text)


if __name__ == "__main__":
    main("floor: sqlite3", SqliteFloor)
