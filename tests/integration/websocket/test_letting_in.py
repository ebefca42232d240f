"""The thread socket lets in who may see the thread, and puts out who may not any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from channels.routing import URLRouter
from django.conf import LazySettings
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.models import Session
from django.urls import path

from agentcore.models import Thread
from agentcore.realtime.database import query
from agentcore.routing import websocket_urlpatterns
from agentcore.streams.hub import Hub
from tests.integration.sockets import (
    NOT_FOUND,
    Client,
    application,
    log_in,
    make_run,
    run_name,
    say,
)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.covers("dj:WS-4", "threat:T1", "promise:P9")
async def test_nobody_a_stranger_and_a_missing_thread_get_the_same_answer(
    users: tuple[Any, Any], thread: Thread, session: str
) -> None:
    owner, stranger = users
    codes = {
        "anonymous": await Client(thread.pk).refusal(),
        "stranger": await Client(thread.pk, await query(log_in, stranger)).refusal(),
        "missing": await Client(uuid4(), session).refusal(),
        "rubbish session": await Client(thread.pk, "x" * 32).refusal(),
    }
    owner.is_active = False
    await query(owner.save)
    codes["inactive"] = await Client(thread.pk, session).refusal()
    assert set(codes.values()) == {NOT_FOUND}


async def test_a_user_some_other_middleware_vouches_for_is_let_in(users: tuple[Any, Any], thread: Thread) -> None:
    def as_user(user: Any) -> Any:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await URLRouter(websocket_urlpatterns)({**scope, "user": user}, receive, send)

        return app

    async with Client(thread.pk, app=as_user(users[0])) as client:
        assert (await client.attach())["streams"] == [f"thread:{thread.pk}"]
    assert await Client(thread.pk, app=as_user(users[1])).refusal() == NOT_FOUND
    assert await Client(thread.pk, app=as_user(AnonymousUser())).refusal() == NOT_FOUND
    assert await Client(thread.pk, app=URLRouter(websocket_urlpatterns)).refusal() == NOT_FOUND
    users[0].is_active = False
    await query(users[0].save)
    assert await Client(thread.pk, app=as_user(users[0])).refusal() == NOT_FOUND


async def test_staff_with_the_permission_see_every_thread(users: tuple[Any, Any], thread: Thread) -> None:
    stranger = users[1]
    stranger.is_superuser = stranger.is_staff = True
    await query(stranger.save)
    async with Client(thread.pk, await query(log_in, stranger)) as client:
        await client.attach()


@pytest.mark.covers("dj:WS-2")
@pytest.mark.parametrize("nested", [False, True])
async def test_the_routes_are_a_plain_list_that_can_be_joined_or_nested(
    thread: Thread, session: str, nested: bool
) -> None:
    from channels.auth import AuthMiddlewareStack

    mine = [path("mine/", application)]
    routes = [*mine, path("", URLRouter(websocket_urlpatterns))] if nested else [*mine, *websocket_urlpatterns]
    assert isinstance(websocket_urlpatterns, list)
    async with Client(thread.pk, session, AuthMiddlewareStack(URLRouter(routes))) as client:
        await client.attach()


def logged_out(owner: Any, thread: Thread) -> None:
    Session.objects.all().delete()


def deactivated(owner: Any, thread: Thread) -> None:
    owner.is_active = False
    owner.save()


def password_changed(owner: Any, thread: Thread) -> None:
    owner.set_password("another")
    owner.save()


def given_away(owner: Any, thread: Thread) -> None:
    Thread.objects.update(owner=None)


REVOKED = [logged_out, deactivated, password_changed, given_away]


@pytest.mark.covers("dj:WS-5", "fault:S13")
@pytest.mark.parametrize("revoke", REVOKED, ids=lambda revoke: revoke.__name__)
async def test_a_client_that_loses_its_right_is_put_out_soon(
    users: tuple[Any, Any], thread: Thread, session: str, every: Callable[..., None], revoke: Callable[..., None]
) -> None:
    every(recheck=0.3)
    run = await query(make_run, thread)
    async with Client(thread.pk, session) as client:
        await client.attach()
        await query(say, run, "before")
        await client.events(run_name(run), 1)
        await asyncio.sleep(0.7)
        await query(revoke, users[0], thread)
        assert await client.closed(2) == NOT_FOUND
        assert Hub.current().watched() == []
        await query(say, run, "after")
        assert await client.silent()


@pytest.mark.covers("dj:WS-5")
@pytest.mark.parametrize("revoke", REVOKED, ids=lambda revoke: revoke.__name__)
@pytest.mark.parametrize("frame", ['{"type":"attach"}', "{"], ids=["good frame", "bad frame"])
async def test_a_client_without_its_right_is_put_out_when_it_speaks(
    users: tuple[Any, Any], thread: Thread, session: str, revoke: Callable[..., None], frame: str
) -> None:
    async with Client(thread.pk, session) as client:
        await query(revoke, users[0], thread)
        await client.send(frame)
        assert await client.receive() == {"type": "closed", "code": NOT_FOUND}


async def test_checking_a_login_does_not_touch_the_session(
    users: tuple[Any, Any], thread: Thread, session: str, settings: LazySettings, every: Callable[..., None]
) -> None:
    """Django's own check would give the session a new key when the site's key is rotated: the page would be out."""
    every(recheck=0.1)
    async with Client(thread.pk, session) as client:
        settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
        settings.SECRET_KEY = "the next one"
        await asyncio.sleep(0.4)
        await client.attach()
    assert await query(lambda: list(Session.objects.values_list("session_key", flat=True))) == [session]


EXPIRED: set[str] = set()


def token_lives(scope: Any) -> bool:
    """A project's own rule, as its settings name it."""
    return scope["token"] not in EXPIRED


@pytest.mark.covers("fc:E9")
async def test_a_token_that_has_run_out_closes_its_socket(
    users: tuple[Any, Any], thread: Thread, settings: LazySettings, every: Callable[..., None]
) -> None:
    def with_token(token: str) -> Any:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await URLRouter(websocket_urlpatterns)({**scope, "user": users[0], "token": token}, receive, send)

        return app

    EXPIRED.clear()
    settings.AGENTCORE = {**settings.AGENTCORE, "STILL_ALLOWED": f"{__name__}.token_lives"}
    every(recheck=0.3)
    async with Client(thread.pk, app=with_token("short")) as short, Client(thread.pk, app=with_token("long")) as long:
        await short.attach()
        await long.attach()
        EXPIRED.add("short")
        assert await short.closed(3) == NOT_FOUND
        await long.attach()
    assert await Client(thread.pk, app=with_token("short")).refusal() == NOT_FOUND


@pytest.mark.covers("fc:E9")
async def test_a_projects_rule_does_not_replace_what_is_always_asked(
    users: tuple[Any, Any], thread: Thread, session: str, settings: LazySettings
) -> None:
    EXPIRED.clear()
    settings.AGENTCORE = {**settings.AGENTCORE, "STILL_ALLOWED": f"{__name__}.always"}
    async with Client(thread.pk, session) as client:
        await client.attach()
        await query(logged_out, users[0], thread)
        await client.send('{"type":"attach"}')
        assert await client.receive() == {"type": "closed", "code": NOT_FOUND}


def always(scope: Any) -> bool:
    """A rule that says yes to everybody."""
    return True
