"""A job that finds nothing to do is cheap: there may be a hundred thousand of them."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from agentcore.jobs.single import execute_run
from agentcore.models import Thread
from tests.testapp import agents

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.covers("fault:R4", "fault:R10")
def test_a_job_with_nothing_to_do_costs_one_statement(thread: Thread) -> None:
    run = agents.echo.runs.send(thread, "Hi", user=thread.owner)
    assert execute_run(str(run.pk)) == "ended"
    connection.ensure_connection()
    with CaptureQueriesContext(connection) as queries:
        assert execute_run(str(run.pk)) == "nothing"
    statements = [query["sql"] for query in queries if query["sql"].split()[0] not in ("BEGIN", "COMMIT", "BEGIN;")]
    assert len([sql for sql in statements if not sql.startswith("PRAGMA")]) <= 1, statements
