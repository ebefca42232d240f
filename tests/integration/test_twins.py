"""Every service that an agent offers has an async twin, and what that gives can be used on an event loop."""

from __future__ import annotations

import inspect
from typing import Any
from uuid import uuid4

import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from django.db.models import QuerySet

from agentcore import SYSTEM
from agentcore.exceptions import Invalid, NotFound
from agentcore.models import Approval, Thread
from agentcore.services import events
from agentcore.testing import Turn
from tests.integration.decision_room import asking
from tests.integration.room import make, statements

pytestmark = pytest.mark.usefixtures("nothing_paid")

SURFACES = ("threads", "messages", "runs", "tools", "events")


def offered(surface: Any) -> dict[str, Any]:
    """The public functions of a surface of an agent, by name."""
    found = {name: getattr(surface, name) for name in dir(surface) if not name.startswith("_")}
    return {name: function for name, function in found.items() if callable(function)}


@pytest.mark.django_db
@pytest.mark.covers("fc:C8")
@pytest.mark.parametrize("surface", SURFACES)
def test_every_service_has_a_twin_and_both_say_what_they_do(surface: str) -> None:
    found = offered(getattr(make([]).agent, surface))
    awaited = {name for name, function in found.items() if inspect.iscoroutinefunction(function)}
    plain = found.keys() - awaited
    assert plain and awaited == {f"a{name}" for name in plain}
    assert [name for name, function in found.items() if not inspect.getdoc(function)] == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.covers("fc:C8")
async def test_what_a_twin_gives_was_read_already(user: Any) -> None:
    room, run = await sync_to_async(asking)()
    agent = room.agent
    thread = await sync_to_async(Thread.objects.get)(pk=room.thread.pk)
    approval = (await agent.tools.apending(user=SYSTEM))[0]
    given = {
        "threads.acreate": await agent.threads.acreate(user=user),
        "threads.aget": await agent.threads.aget(thread.pk, user=SYSTEM),
        "threads.alist": await agent.threads.alist(user=SYSTEM),
        "messages.asave": await agent.messages.asave(await agent.threads.acreate(user=user), "Hi", user=user),
        "messages.alist": await agent.messages.alist(thread, user=SYSTEM),
        "runs.aget": await agent.runs.aget(run.pk, user=SYSTEM),
        "runs.alist": await agent.runs.alist(thread, user=SYSTEM),
        "tools.alist": await agent.tools.alist(run, user=SYSTEM),
        "tools.apending": await agent.tools.apending(user=SYSTEM),
        "events.aread": await agent.events.aread(run, user=SYSTEM),
        "events.aread_batch": await agent.events.aread_batch({run.pk: -1}, user=SYSTEM),
        "tools.aapprove": await agent.tools.aapprove(approval, user=SYSTEM, digest=approval.digest),
        "runs.alink": await agent.runs.alink(run, kind="ticket", external_id="1", user=SYSTEM),
        "runs.acancel": await agent.runs.acancel(run, user=SYSTEM),
        "runs.aretry": await agent.runs.aretry(run, user=SYSTEM),
        "runs.asend": await agent.runs.asend(thread, "Hi", user=SYSTEM),
    }
    assert [name for name, value in given.items() if isinstance(value, QuerySet)] == []
    for name in ("threads.alist", "runs.alist", "tools.alist", "tools.apending"):
        assert type(given[name]) is list and given[name], name
    assert [str(item.thread) for item in given["runs.alist"]]  # on the event loop, where nothing may be read
    assert str(given["tools.apending"][0].tool_call) and str(given["tools.apending"][0].run)
    assert str(given["tools.alist"][0].run) and str(given["runs.acancel"].thread)
    await sync_to_async(connections.close_all)()


@pytest.mark.django_db
@pytest.mark.covers("fc:F4")
def test_the_events_of_any_number_of_runs_are_read_with_as_many_statements(user: Any) -> None:
    room = make([Turn(text="Well.")] * 12, user=user, on_busy="parallel")
    runs = [room.play() for _ in range(12)]

    def count(number: int) -> int:
        with statements() as seen:
            pages = events.read_batch({run.pk: -1 for run in runs[:number]}, user=user)
        assert len(pages) == number and all(page.done for page in pages.values())
        return len(seen)

    assert count(12) == count(2)


@pytest.mark.django_db
@pytest.mark.covers("fc:F4")
def test_one_run_among_many_that_is_not_theirs_or_named_twice_is_refused(user: Any, other_user: Any) -> None:
    run = make([Turn(text="Well.")], user=user).play()
    for cursors in ({run.pk: -1, uuid4(): -1}, {run.pk: -1, "nonsense": -1}):
        with pytest.raises(NotFound):
            events.read_batch(cursors, user=user)
    with pytest.raises(NotFound):
        events.read_batch({run.pk: -1}, user=other_user)
    with pytest.raises(Invalid, match="named twice"):
        events.read_batch({run.pk: -1, str(run.pk): 3}, user=user)
    assert events.read_batch({}, user=user) == {}
    assert not Approval.objects.exists()
