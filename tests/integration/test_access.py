"""One policy for services, HTTP, websocket and admin: what is not yours is not there, wherever you ask."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest
from asgiref.sync import async_to_sync
from django.conf import LazySettings
from django.contrib.auth.models import AbstractUser, AnonymousUser
from django.db.models import QuerySet
from django.test import Client
from django.urls import reverse

from agentcore import SYSTEM
from agentcore.access import OwnerPolicy
from agentcore.exceptions import NotAllowed, NotFound, RequestError, UserError
from agentcore.models import Approval, Run, Thread
from agentcore.services import approvals, events, messages, runs, threads, unverified
from agentcore.testing import run_until_idle
from tests.integration import sockets
from tests.integration.office import staff
from tests.testapp import agents

pytestmark = pytest.mark.django_db

# Django's own permissions open the admin's pages; of whose rows they show, they say nothing.
PAGES = ("view_thread", "view_run", "view_approval")


@dataclass(frozen=True)
class World:
    """The owner's thread, with a run that waits for an approval."""

    thread: Thread
    run: Run
    approval: Approval


def staff_but(name: str, *permissions: str, **wrong: bool) -> Any:
    """A member of staff with these permissions, in all but what is said to be wrong with them."""
    person = staff(name, *PAGES, "view_any_thread", "decide_approval", *permissions)
    for field, value in wrong.items():
        setattr(person, field, value)
    person.save()
    return person


PEOPLE: dict[str, Callable[[], Any]] = {
    "owner": lambda: staff("ada", *PAGES),
    "stranger": lambda: staff("bob", *PAGES),
    "operator": lambda: staff("olga", *PAGES, "view_any_thread"),
    "decider": lambda: staff("dora", *PAGES, "decide_approval"),
    "canceller": lambda: staff("carl", *PAGES, "view_any_thread", "cancel_any_run"),
    "inactive": lambda: staff_but("ina", is_active=False),
    "permitted but no staff": lambda: staff_but("nora", "cancel_any_run", is_staff=False),
    "anonymous": AnonymousUser,
}


class People(dict[str, Any]):
    """Everybody who may knock, by what they are: each is made when a test first asks for them."""

    def __missing__(self, who: str) -> Any:
        person = self[who] = PEOPLE[who]()
        return person


@pytest.fixture
def people() -> People:
    """Everybody who may knock."""
    return People()


@pytest.fixture
def world(people: People, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> World:
    """What there is to see."""
    monkeypatch.setenv("WORLD_LOG", str(tmp_path / "world.log"))
    thread = agents.gated.threads.create(user=people["owner"], title="Ada's own")
    run = run_until_idle(agents.gated.runs.send(thread, "please", user=people["owner"]))
    return World(thread, run, Approval.objects.get())


def client_of(user: Any) -> Client:
    client = Client()
    if user.is_authenticated:
        client.force_login(user)
    return client


def _found(ask: Callable[[], Any]) -> bool:
    try:
        ask()
    except NotFound:
        return False
    return True


def by_service(user: Any, world: World) -> set[bool]:
    """What each service says, which must be the same of all."""
    return {
        _found(lambda: threads.get(world.thread.pk, user=user)),
        _found(lambda: runs.get(world.run.pk, user=user)),
        _found(lambda: runs.list_(world.thread.pk, user=user)),
        _found(lambda: messages.list_(world.thread.pk, user=user)),
        _found(lambda: events.read(world.run.pk, user=user)),
        _found(lambda: events.read_batch({world.run.pk: -1}, user=user)),
        world.thread in threads.list_(user=user),
    }


PATHS = ["threads/{thread}", "threads/{thread}/messages", "threads/{thread}/runs", "runs/{run}", "runs/{run}/events"]


def by_http(user: Any, world: World) -> set[bool]:
    """What each address answers; one that is not theirs answers like one that is not there."""
    client, seen = client_of(user), set()
    for path in PATHS:
        real = client.get("/agent/" + path.format(thread=world.thread.pk, run=world.run.pk))
        missing = client.get("/agent/" + path.format(thread=uuid4(), run=uuid4()))
        assert missing.status_code in (401, 404)
        if real.status_code != 200:
            first, second = ({**answer.json(), "id": ""} for answer in (real, missing))
            assert (real.status_code, first) == (missing.status_code, second)
        seen.add(real.status_code == 200)
    return seen


def by_websocket(user: Any, world: World) -> set[bool]:
    """Whether the thread's socket opens; else it closes as it does for a thread that is not there."""
    key = sockets.log_in(user) if user.is_authenticated else None

    async def refused(thread_id: UUID) -> Any:
        client = sockets.Client(thread_id, key)
        connected, code = await client.socket.connect(timeout=5)
        await client.socket.disconnect(timeout=5)
        await sockets.close_shared_connections()
        return None if connected else code

    assert async_to_sync(refused)(uuid4()) == sockets.NOT_FOUND
    code = async_to_sync(refused)(world.thread.pk)
    assert code in (None, sockets.NOT_FOUND)
    return {code is None}


def by_admin(user: Any, world: World) -> set[bool]:
    """Whether the lists name it and its pages open."""
    client, seen = client_of(user), set()
    for name, pk in (("thread", world.thread.pk), ("run", world.run.pk)):
        # The list first: a page that is not there leaves a message with its id for the next one.
        listed = client.get(reverse(f"admin:agentcore_{name}_changelist"))
        page = client_of(user).get(reverse(f"admin:agentcore_{name}_change", args=[pk]))
        seen |= {page.status_code == 200, str(pk) in listed.content.decode()}
    return seen


# A socket reads on threads of its own, which see what is committed.
DOORS = ["service", "http", "admin", pytest.param("websocket", marks=pytest.mark.django_db(transaction=True))]
ENTRIES = {"service": by_service, "http": by_http, "websocket": by_websocket, "admin": by_admin}
SEES = {
    "owner": True,
    "operator": True,
    "canceller": True,
    "stranger": False,
    "decider": False,
    "inactive": False,
    "permitted but no staff": False,
    "anonymous": False,
}


@pytest.mark.covers("dj:PRM-3", "dj:WS-4", "dj:SEC-2", "promise:P9")
@pytest.mark.parametrize("entry", DOORS)
@pytest.mark.parametrize(("who", "sees"), SEES.items())
def test_who_sees_a_thread_and_its_runs_is_the_same_at_every_door(
    people: People, world: World, entry: str, who: str, sees: bool
) -> None:
    assert ENTRIES[entry](people[who], world) == {sees}


class OpenToBob(OwnerPolicy):
    """A project's own policy: Bob sees everything, and nobody else anything."""

    def visible_threads(self, user: Any, threads: QuerySet[Thread]) -> QuerySet[Thread]:
        return threads if getattr(user, "username", "") == "bob" else threads.none()


@pytest.mark.covers("dj:PRM-3")
@pytest.mark.parametrize("entry", DOORS)
def test_a_projects_own_policy_decides_at_every_door(
    people: People, world: World, settings: LazySettings, entry: str
) -> None:
    settings.AGENTCORE = {**settings.AGENTCORE, "ACCESS_POLICY": f"{__name__}.OpenToBob"}
    assert ENTRIES[entry](people["stranger"], world) == {True}
    assert ENTRIES[entry](people["owner"], world) == {False}


@pytest.mark.covers("dj:PRM-3")
@pytest.mark.parametrize(
    ("who", "sees"),
    [(who, who in ("owner", "operator", "canceller", "decider")) for who in SEES],
)
def test_who_sees_an_approval_is_the_same_at_every_door(people: People, world: World, who: str, sees: bool) -> None:
    user = people[who]
    assert [*approvals.pending(user=user)] == [world.approval] * sees
    client = client_of(user)
    answer = client.get("/agent/approvals")
    listed = [item["id"] for item in answer.json().get("approvals", [])]
    assert listed == [str(world.approval.pk)] * sees
    page = client.get(reverse("admin:agentcore_approval_change", args=[world.approval.pk]))
    assert (page.status_code == 200) == sees


# --- what they may do -----------------------------------------------------------------------------------------------


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


def link(user: Any, world: World) -> Any:
    return runs.link(world.run.pk, kind="ticket", external_id="1", user=user)


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


@pytest.mark.parametrize("wrong", ["", "no uuid", "1", None, 7, "../etc"])
def test_an_id_that_cannot_be_one_is_not_there(user: AbstractUser, wrong: Any) -> None:
    with pytest.raises(NotFound):
        threads.get(wrong, user=user)
    with pytest.raises(NotFound):
        runs.get(wrong, user=user)
