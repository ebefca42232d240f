"""The doors of agentcore, services, HTTP, websocket and admin, and who may see a thread and its runs by each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest
from asgiref.sync import async_to_sync
from django.test import Client
from django.urls import reverse

from agentcore.exceptions import NotFound
from agentcore.models import Approval, Run, Thread
from agentcore.services import events, messages, runs, threads
from tests.integration import sockets


@dataclass(frozen=True)
class World:
    """The owner's thread, with a run that waits for an approval."""

    thread: Thread
    run: Run
    approval: Approval


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
