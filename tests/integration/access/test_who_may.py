"""Who may do what to a thread and its runs, by services and over HTTP, and which refusal others get."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client

from agentcore import SYSTEM
from agentcore.exceptions import NotAllowed, NotFound, RequestError, UserError
from agentcore.models import Run
from agentcore.services import approvals, messages, runs, unverified
from tests.integration.access.doors import World, by_service, client_of
from tests.integration.access.people import People
from tests.testapp import agents

pytestmark = pytest.mark.django_db


def send(user: Any, world: World) -> Any:
    return agents.gated.runs.send(world.thread.pk, "more", user=user)


def save(user: Any, world: World) -> Any:
    return messages.save(world.thread.pk, "more", user=user)


def cancel(user: Any, world: World) -> Any:
    return runs.cancel(world.run.pk, user=user)


def deny(user: Any, world: World) -> Any:
    return approvals.deny(world.approval.pk, user=user, digest=world.approval.digest)


def resume(user: Any, world: World) -> Any:
    return runs.resume(world.run.pk, user=user)


def resolve(user: Any, world: World) -> Any:
    return unverified.resolve(world.run.pk, world.approval.tool_call.call_id, "give_up", user=user)


# Of each command: the error for everybody, or None where it is done (or fails for a reason of its own).
MAY: dict[str, dict[str, type[RequestError] | None]] = {
    "send": {"owner": None, "operator": NotAllowed, "canceller": NotAllowed, "decider": NotFound},
    "save": {"owner": None, "operator": NotAllowed, "canceller": NotAllowed, "decider": NotFound},
    "cancel": {"owner": None, "operator": NotAllowed, "canceller": None, "decider": NotFound},
    "deny": {"owner": NotAllowed, "operator": NotAllowed, "canceller": NotAllowed, "decider": None},
    "resume": {"owner": None, "operator": NotAllowed, "canceller": None, "decider": NotFound},
    "resolve": {"owner": NotAllowed, "operator": NotAllowed, "canceller": NotAllowed, "decider": NotFound},
}
COMMANDS = {"send": send, "save": save, "cancel": cancel, "deny": deny, "resume": resume, "resolve": resolve}
NOBODY = ("stranger", "inactive", "permitted but no staff", "anonymous")


def prepared(world: World, command: str) -> None:
    """Make the command possible, so that only the permission is in its way."""
    from django.utils import timezone

    from agentcore.models import ToolCall

    if command == "resume":
        Run.objects.filter(pk=world.run.pk).update(poisoned_at=timezone.now())
    if command == "resolve":
        ToolCall.objects.filter(run=world.run).update(status="effect_unverified")


@pytest.mark.covers("dj:PRM-2", "fault:A10")
@pytest.mark.parametrize(
    ("command", "who", "refusal"),
    [(command, who, refusal) for command, by in MAY.items() for who, refusal in by.items()]
    + [(command, who, NotFound) for command in MAY for who in NOBODY],
)
def test_who_may_do_what(
    people: People, world: World, command: str, who: str, refusal: type[RequestError] | None
) -> None:
    prepared(world, command)
    before = Run.objects.filter(pk=world.run.pk).values().get(), Run.objects.count()
    act, user = COMMANDS[command], people[who]
    if refusal is None:
        act(user, world)
        return
    with pytest.raises(refusal) as refused:
        act(user, world)
    assert type(refused.value) is refusal
    assert (Run.objects.filter(pk=world.run.pk).values().get(), Run.objects.count()) == before
    world.approval.refresh_from_db()
    assert world.approval.status == "pending"


HTTP = {
    "send": ("/agent/threads/{world.thread.pk}/runs", {"agent": "gated", "text": "more"}),
    "cancel": ("/agent/runs/{world.run.pk}/cancel", {}),
    "retry": ("/agent/runs/{world.run.pk}/retry", {}),
}
ANSWERS = {
    "send": {"owner": 201, "operator": 403, "canceller": 403, "decider": 404, "stranger": 404, "anonymous": 401},
    "cancel": {"owner": 200, "operator": 403, "canceller": 200, "decider": 404, "stranger": 404, "anonymous": 401},
    "retry": {"owner": 409, "operator": 403, "canceller": 403, "decider": 404, "stranger": 404, "anonymous": 401},
    "deny": {"owner": 403, "operator": 403, "canceller": 403, "decider": 200, "stranger": 404, "anonymous": 401},
}


@pytest.mark.covers("dj:PRM-2", "dj:PRM-3", "dj:SEC-2", "fault:A10")
@pytest.mark.parametrize(
    ("command", "who", "status"),
    [(command, who, status) for command, by in ANSWERS.items() for who, status in by.items()],
)
def test_who_may_do_what_over_http(people: People, world: World, command: str, who: str, status: int) -> None:
    decision = {"approval": str(world.approval.pk), "verdict": "deny", "digest": world.approval.digest}
    path, body = HTTP.get(command, ("/agent/approvals/decide", {"decisions": [decision]}))
    answer = client_of(people[who]).post(path.format(world=world), json.dumps(body), content_type="application/json")
    assert answer.status_code == status, answer.content
    if status >= 400:
        assert answer["Content-Type"] == "application/problem+json" and answer.json()["id"]


@pytest.mark.covers("dj:SEC-1")
@pytest.mark.parametrize("command", HTTP)
def test_a_command_without_a_csrf_token_is_refused(people: People, world: World, command: str) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(people["owner"])
    path, body = HTTP[command]
    answer = client.post(path.format(world=world), json.dumps(body), content_type="application/json")
    assert answer.status_code == 403 and client.get(path.format(world=world)).status_code in (200, 405)
    assert Run.objects.count() == 1 and Run.objects.get().status == "waiting"


@pytest.mark.covers("dj:PRM-1")
def test_the_permissions_are_made_by_the_migrations() -> None:
    from django.contrib.auth.models import Permission

    ours = Permission.objects.filter(content_type__app_label="agentcore").values_list("codename", flat=True)
    assert {"view_any_thread", "cancel_any_run", "decide_approval"} <= set(ours)


def test_code_that_acts_for_nobody_says_so(world: World) -> None:
    assert by_service(SYSTEM, world) == {True}
    for act in (send, cancel, deny, save):
        with pytest.raises(UserError, match="SYSTEM"):
            act(None, world)
