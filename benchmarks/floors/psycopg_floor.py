"""The workloads with psycopg alone: one statement a commit, no read back, the deltas as rows in one of them."""

from __future__ import annotations

import json

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from benchmarks.subject import Bare, check_texts, database_url, main
from benchmarks.workload import PROMPT, TOOL, weather

CONNECTIONS = 16
TABLES = """
CREATE TABLE IF NOT EXISTS run (id bigint PRIMARY KEY, status text NOT NULL, output text);
CREATE TABLE IF NOT EXISTS message (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, run bigint NOT NULL, author text NOT NULL, body text NOT NULL);
CREATE TABLE IF NOT EXISTS step (
    run bigint, number int, kind text NOT NULL, result text NOT NULL, PRIMARY KEY (run, number));
CREATE TABLE IF NOT EXISTS event (run bigint, seq int, body text NOT NULL, PRIMARY KEY (run, seq));
"""
ACCEPT = (
    "WITH new AS (INSERT INTO run (id, status) VALUES (%(run)s, 'running')) "
    "INSERT INTO message (run, author, body) VALUES (%(run)s, 'user', %(prompt)s)"
)
STEP = "INSERT INTO step VALUES (%s, %s, 'model', %s)"
RESULTS = (
    "INSERT INTO step SELECT %(run)s, %(before)s + place, 'tool', result "
    "FROM unnest(%(results)s::text[]) WITH ORDINALITY u(result, place)"
)
LAST_STEP = (
    "WITH said AS (INSERT INTO event SELECT %(run)s, place, delta "
    "FROM unnest(%(deltas)s::text[]) WITH ORDINALITY u(delta, place)), "
    "step AS (INSERT INTO step VALUES (%(run)s, %(number)s, 'model', %(text)s)) "
    "INSERT INTO message (run, author, body) VALUES (%(run)s, 'agent', %(text)s)"
)
SAID = "SELECT string_agg(body, '' ORDER BY seq) FROM event WHERE run >= %s AND run < %s GROUP BY run"
END = "UPDATE run SET status = 'done', output = %s WHERE id = %s"


class PsycopgFloor(Bare):
    """The floor on PostgreSQL."""

    pool: AsyncConnectionPool

    async def open(self, in_flight: int) -> None:
        """Open one connection for each run in flight, up to a number that more would not help."""
        size = min(in_flight, CONNECTIONS)
        self.pool = AsyncConnectionPool(
            database_url(), min_size=size, max_size=size, open=False, kwargs={"autocommit": True}
        )
        await self.pool.open(wait=True)
        async with self.pool.connection() as connection:
            await connection.execute(TABLES)

    async def run(self, number: int) -> str:
        """Write one run, a commit for each statement."""
        async with self.pool.connection() as connection:
            cursor = connection.cursor()
            await cursor.execute(ACCEPT, {"run": number, "prompt": PROMPT})
            step = 1
            for turn in range(1, self.workload.rounds + 1):
                asked = self.workload.asked(turn)
                calls = [{"id": call.id, "name": TOOL, "arguments": call.arguments} for call in asked]
                await cursor.execute(STEP, (number, step, json.dumps(calls)))
                results = [json.dumps(weather(**call.arguments)) for call in asked]
                await cursor.execute(RESULTS, {"run": number, "before": step, "results": results})
                step += 1 + len(results)
            text, deltas = "".join(self.workload.words), list(self.workload.deltas)
            await cursor.execute(LAST_STEP, {"run": number, "number": step, "deltas": deltas, "text": text})
            await cursor.execute(END, (text, number))
        return text

    async def close(self) -> None:
        """Close the connections."""
        await self.pool.close()

    async def check(self, numbers: range) -> None:
        """See that every run has its deltas."""
        async with await AsyncConnection.connect(database_url()) as connection:
            found = await connection.execute(SAID, (numbers.start, numbers.stop))
            check_texts([text for (text,) in await found.fetchall()], len(numbers), self.workload.text)


if __name__ == "__main__":
    main("floor: psycopg", PsycopgFloor)
