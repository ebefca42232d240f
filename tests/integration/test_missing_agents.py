"""A run whose agent no worker has: the worker's log, the API and the admin say so by the agent's name."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from django.urls import reverse

from agentcore import Agent
from agentcore.declaration import registry
from agentcore.models import Run
from agentcore.services import execution, versions
from agentcore.testing import ScriptedModel, Turn
from tests.integration.room import fresh

pytestmark = [pytest.mark.django_db, pytest.mark.covers("fc:C5")]


@pytest.fixture(autouse=True)
def _nothing_warned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "_warned", {})


def declare(version: str = "1", **options: Any) -> Agent:
    return Agent(name="florist", version=version, model=ScriptedModel([Turn(text="Hello")] * 3), **options)


def sent(agent: Agent, user: Any) -> Run:
    return agent.runs.send(agent.threads.create(user=user), "Go", user=user)


def looked_at(run: Run) -> None:
    Run.objects.filter(pk=run.pk).update(available_at=None)
    assert execution.drive(run.pk) == "other_version"


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record for record in caplog.records if getattr(record, "action", "") == "agent_missing"]
    assert all(record.levelno == logging.WARNING for record in found)
    return [record.getMessage() for record in found]


def test_the_workers_log_names_an_agent_that_it_does_not_have_once_for_all_its_runs(
    user: Any, caplog: pytest.LogCaptureFixture
) -> None:
    runs = [sent(agent, user) for agent in [declare()] for _ in range(3)]
    registry._agents.pop("florist")
    for run in [*runs, *runs]:
        looked_at(run)
    (message,) = warned(caplog)
    assert "no agent 'florist' is declared" in message
    versions._warned.update({key: moment - versions.WARN_SECONDS for key, moment in versions._warned.items()})
    looked_at(runs[0])
    assert len(warned(caplog)) == 2


def test_the_workers_log_names_the_version_that_a_strict_run_waits_for(
    user: Any, caplog: pytest.LogCaptureFixture
) -> None:
    run = sent(declare("1", on_version="strict"), user)
    registry._agents.pop("florist")
    declare("2", on_version="strict")
    looked_at(run)
    (message,) = warned(caplog)
    assert "'florist'" in message and "here in version '2'" in message and "runs of version '1'" in message


def test_the_admin_says_which_agent_is_missing_and_the_api_that_it_takes_long_until_somebody_has_it(
    user: Any, client: Any, admin_client: Any
) -> None:
    run = sent(declare(), user)
    agents = dict(registry._agents)
    registry._agents.pop("florist")
    looked_at(run)
    client.force_login(user)
    (note,) = client.get(f"/agent/runs/{run.pk}").json()["notes"]
    assert note == {"code": "agent_missing", "message": "This is taking longer than usual."}
    page = admin_client.get(reverse("admin:agentcore_run_change", args=[run.pk])).content.decode()
    assert "No worker that has looked at this run has its agent" in page and "florist" in page
    assert "no worker has its agent" in admin_client.get(reverse("admin:agentcore_run_changelist")).content.decode()
    registry._agents.update(agents)
    Run.objects.filter(pk=run.pk).update(available_at=None)
    assert execution.drive(run.pk) == "ended"
    assert client.get(f"/agent/runs/{run.pk}").json()["notes"] == [] and fresh(run).status == "succeeded"
