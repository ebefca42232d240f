"""The thread socket shows what its user may see, from the client's cursors on, and lets go in time."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from channels.routing import URLRouter
from django.conf import LazySettings
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.models import Session
from django.urls import path

from agentcore.models import Run, Thread
from agentcore.realtime import consumers, frames
from agentcore.realtime.database import query
from agentcore.realtime.frames import Name
from agentcore.routing import websocket_urlpatterns
from agentcore.streams.hub import Hub
from supportdemo.servers import free_port
from tests.integration.live import eventually, open_connections
from tests.integration.sockets import (
    NOT_FOUND,
    Client,
    announce,
    application,
    finish,
    log_in,
    make_run,
    make_thread,
    positions,
    say,
    write,
)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def users(django_user_model: Any, transactional_db: None) -> tuple[Any, Any]:
    """The owner and a stranger."""
    create = django_user_model.objects.create_user
    return create("ada", "ada@example.com", "pw"), create("bob", "bob@example.com", "pw")


@pytest.fixture
def thread(users: tuple[Any, Any]) -> Thread:
    return make_thread(users[0])


@pytest.fixture
def session(users: tuple[Any, Any]) -> str:
    return log_in(users[0])


@pytest.fixture
def every(settings: LazySettings) -> Callable[..., None]:
    """Sets how often things are done, by the setting's name without its unit."""

    def set_seconds(**seconds: float) -> None:
        given = {f"{name.upper()}_SECONDS": value for name, value in seconds.items()}
        settings.AGENTCORE = {**settings.AGENTCORE, **given}

    return set_seconds


def run_name(run: Run) -> str:
    return f"run:{run.pk}"


# --- who is let in -----------------------------------------------------------------------------------------------


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


# --- what is sent ------------------------------------------------------------------------------------------------


@pytest.mark.covers("dj:WS-6", "dj:WS-7")
async def test_an_attached_client_gets_the_thread_and_its_live_runs(thread: Thread, session: str) -> None:
    run = await query(make_run, thread)
    ended = await query(make_run, thread)
    await query(say, run, "Hello", "you")
    await query(finish, ended)
    async with Client(thread.pk, session) as client:
        attached = await client.attach()
        assert attached == {"v": 1, "type": "attached", "streams": [f"thread:{thread.pk}", run_name(run)]}
        got = await client.events(run_name(run), 2)
        assert got[1] == {
            "v": 1,
            "stream": run_name(run),
            "seq": 1,
            "event": {"v": 1, "seq": 1, "type": "text.delta", "step": 1, "text": "you"},
        }
        await query(say, run, "there")
        assert positions(await client.events(run_name(run), 1)) == [2]
        streams = {frame.get("stream") for frame in client.frames}
        assert run_name(ended) not in streams, "a run that ended before is history, and nobody asked for it"


@pytest.mark.covers("dj:WS-7", "fault:S1")
async def test_a_client_that_comes_back_gets_exactly_what_it_missed(thread: Thread, session: str) -> None:
    run = await query(make_run, thread)
    await query(say, run, *"abcde")
    for cursor in (-1, 0, 3):
        async with Client(thread.pk, session) as client:
            await client.attach(**{run_name(run): cursor, f"thread:{thread.pk}": 0})
            expected = list(range(cursor + 1, 5))
            assert positions(await client.events(run_name(run), len(expected))) == expected
            assert await client.silent()
    async with Client(thread.pk, session) as client:
        await client.attach(**{run_name(run): 4, f"thread:{thread.pk}": 0})
        assert await client.silent()


@pytest.mark.covers("dj:WS-7")
async def test_an_ended_run_is_replayed_when_asked_for_and_then_let_go(thread: Thread, session: str) -> None:
    run = await query(make_run, thread)
    await query(say, run, *"abc")
    await query(finish, run)
    seen = f"thread:{thread.pk}"
    async with Client(thread.pk, session) as client:
        await client.attach(**{run_name(run): 0, seen: 1})
        got = await client.events(run_name(run), 3)
        assert positions(got) == [1, 2, 3] and got[-1]["event"]["type"] == "done"
        await eventually(lambda: Hub.current().watched() == [thread.stream_id])
        assert run_name(run) in (await client.attach(**{run_name(run): 3, seen: 1}))["streams"]
        assert await client.silent()
        assert Hub.current().watched() == [thread.stream_id]


async def test_a_run_that_appears_later_is_followed_to_its_end_once(thread: Thread, session: str) -> None:
    async with Client(thread.pk, session) as client:
        await client.attach()
        run = await query(make_run, thread)
        await query(say, run, *"abc")
        assert positions(await client.events(run_name(run), 3)) == [0, 1, 2]
        await query(finish, run)
        assert (await client.events(run_name(run), 1))[0]["event"]["type"] == "done"
        await eventually(lambda: Hub.current().watched() == [thread.stream_id])
        await query(announce, run)
        while (await client.events(f"thread:{thread.pk}", 1))[0]["seq"] < 2:
            pass
        assert await client.silent()
        assert Hub.current().watched() == [thread.stream_id]


async def test_attaching_again_with_a_cursor_repeats_that_stream_from_there(thread: Thread, session: str) -> None:
    run = await query(make_run, thread)
    await query(say, run, *"abc")
    async with Client(thread.pk, session) as client:
        await client.attach()
        await client.events(run_name(run), 3)
        await client.attach(**{run_name(run): 0})
        assert positions(await client.events(run_name(run), 2)) == [1, 2]
        await query(say, run, "d")
        assert positions(await client.events(run_name(run), 1)) == [3]
        assert await client.silent()


@pytest.mark.covers("fault:S2")
async def test_a_cursor_beyond_the_end_is_answered_with_resync(thread: Thread, session: str) -> None:
    run = await query(make_run, thread)
    await query(say, run, *"abc")
    async with Client(thread.pk, session) as client:
        await client.attach(**{run_name(run): 3, f"thread:{thread.pk}": 0})
        assert await client.frame("resync") == {"v": 1, "type": "resync", "stream": run_name(run), "after": -1}
        assert positions(await client.events(run_name(run), 3)) == [0, 1, 2]


@pytest.mark.covers("threat:T2", "promise:P9")
async def test_streams_of_other_threads_are_not_found(users: tuple[Any, Any], thread: Thread, session: str) -> None:
    other = await query(make_thread, users[0])
    run = await query(make_run, other)
    foreign = await query(make_thread, users[1])
    secret = await query(make_run, foreign)
    await query(say, secret, "secret")
    asked = [run_name(run), run_name(secret), f"run:{uuid4()}", f"thread:{foreign.pk}", f"thread:{other.pk}"]
    async with Client(thread.pk, session) as client:
        await client.send({"type": "attach", "cursors": dict.fromkeys(asked, -1)})
        errors = [await client.frame("error") for _ in asked]
        assert {error["code"] for error in errors} == {"not_found"}
        assert (await client.frame("attached"))["streams"] == [f"thread:{thread.pk}"]
        assert await client.silent()


@pytest.mark.covers("fault:S11")
async def test_an_idle_client_is_pinged(thread: Thread, session: str, every: Callable[..., None]) -> None:
    every(ping=0.1)
    async with Client(thread.pk, session) as client:
        for _ in range(3):
            assert json.loads((await client.socket.receive_output(2))["text"]) == {"v": 1, "type": "ping"}


# --- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.covers("dj:WS-9")
async def test_the_third_bad_frame_closes(thread: Thread, session: str) -> None:
    async with Client(thread.pk, session) as client:
        await client.send("{")
        assert (await client.receive())["code"] == "bad_frame"
        await client.attach()
        await client.socket.send_to(bytes_data=b"\x00")
        assert (await client.frame("error"))["code"] == "bad_frame"
        await client.send({"type": "websocket.disconnect", "code": 1000})
        assert (await client.frame("error"))["code"] == "bad_frame"
        assert await client.closed() == frames.CLOSE_BAD_FRAMES


@pytest.mark.covers("dj:WS-9")
async def test_a_large_frame_closes(thread: Thread, session: str) -> None:
    async with Client(thread.pk, session) as client:
        await client.send(" " * (frames.MAX_FRAME_BYTES + 1))
        assert await client.closed() == frames.CLOSE_BAD_FRAMES


@pytest.mark.covers("fault:S7", "dj:WS-9")
async def test_a_flood_of_good_frames_closes(thread: Thread, session: str) -> None:
    async with Client(thread.pk, session) as client:
        for _ in range(consumers.FLOOD_FRAMES + 1):
            await client.send({"type": "attach"})
        assert await client.closed() == frames.CLOSE_FLOOD


# --- who is put out ----------------------------------------------------------------------------------------------


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


async def test_a_client_that_does_not_read_is_sent_away(
    thread: Thread, users: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "SEND_SECONDS", 0.2)
    run = await query(make_run, thread)
    await query(say, run, *"abc")
    sent: list[dict[str, Any]] = []
    inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def stuck_send(message: dict[str, Any]) -> None:
        sent.append(message)
        if '"event"' in message.get("text", ""):
            await asyncio.Event().wait()

    scope = {"type": "websocket", "path": f"/ws/agent/threads/{thread.pk}/", "headers": [], "user": users[0]}
    socket = asyncio.create_task(URLRouter(websocket_urlpatterns)(scope, inbox.get, stuck_send))
    await inbox.put({"type": "websocket.connect"})
    await inbox.put({"type": "websocket.receive", "text": '{"type":"attach"}'})
    await eventually(lambda: sent[-1:] == [{"type": "websocket.close", "code": frames.CLOSE_SLOW}])
    await eventually(lambda: Hub.current().watched() == [])
    await inbox.put({"type": "websocket.disconnect", "code": 1006})
    await socket


async def test_a_stream_that_cannot_be_followed_closes_the_socket(
    thread: Thread, session: str, caplog: pytest.LogCaptureFixture
) -> None:
    run = await query(make_run, thread)
    await query(write, run, {"type": "text.delta", "text": "ok"})
    async with Client(thread.pk, session) as client:
        await client.attach()
        await client.events(run_name(run), 1)
        await query(Run.objects.filter(pk=run.pk).update, next_seq=5)
        from agentcore.streams import log

        def broken() -> None:
            from django.db import transaction

            with transaction.atomic():
                log.write(run.stream_id, 1, [b"\xff"])

        await query(broken)
        assert await client.closed() == frames.CLOSE_FAILED
    assert "cannot be followed" in caplog.text


# --- what it costs -----------------------------------------------------------------------------------------------


@pytest.mark.covers("dj:ASY-7", "fault:S17")
async def test_a_client_that_leaves_leaves_nothing_behind(thread: Thread, session: str) -> None:
    await query(make_run, thread)
    before = len(asyncio.all_tasks())
    for _ in range(5):
        async with Client(thread.pk, session) as client:
            await client.attach()
            await eventually(lambda: len(Hub.current().watched()) == 2)
        assert Hub.current().watched() == []
    await eventually(lambda: len(asyncio.all_tasks()) <= before + 1)  # the channel layer's own receiver stays


@pytest.mark.covers("dj:ASY-4", "fault:S11")
@pytest.mark.parametrize("backend", ["pubsub.RedisPubSubChannelLayer", "core.RedisChannelLayer"])
async def test_twenty_idle_sockets_live_on_and_hold_no_database_connection(
    users: tuple[Any, Any], session: str, settings: LazySettings, every: Callable[..., None], backend: str
) -> None:
    """Twelve seconds: more than twice the five after which a careless Redis timeout would end them all."""
    every(ping=2, recheck=4, poll=3)
    config = {"hosts": [settings.REDIS_URL]}  # the careless configuration, on purpose
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": f"channels_redis.{backend}", "CONFIG": config}}
    threads = [await query(make_thread, users[0]) for _ in range(20)]
    baseline = await query(open_connections)
    clients = [Client(thread.pk, session) for thread in threads]
    for client in clients:
        await client.__aenter__()
        await client.attach()
    seen: list[int] = []
    for _ in range(120):
        await asyncio.sleep(0.1)
        seen.append(await query(open_connections) - baseline)
    assert sum(extra <= 0 for extra in seen) > 80, seen
    assert max(seen) <= 5, "never more than the hub's reader and the sockets' threads"
    run = await query(make_run, threads[7])
    await query(say, run, "still here")
    assert positions(await clients[7].events(run_name(run), 1)) == [0]
    for client in clients:
        await client.attach()
        await client.__aexit__(None, None, None)


@pytest.mark.covers("dj:WS-10", "promise:P7")
async def test_sockets_work_without_redis(
    thread: Thread, session: str, settings: LazySettings, every: Callable[..., None]
) -> None:
    every(poll=0.2)
    hosts = [{"address": f"redis://127.0.0.1:{free_port()}/0", "socket_timeout": None}]
    layer = settings.CHANNEL_LAYERS["default"]
    settings.CHANNEL_LAYERS = {"default": {**layer, "CONFIG": {"hosts": hosts}}}
    async with Client(thread.pk, session) as client:
        await client.attach()
        run = await query(make_run, thread)
        for seq in range(3):
            await query(say, run, "word")
            assert positions(await client.events(run_name(run), 1)) == [seq]


@pytest.mark.covers("dj:WS-6", "fault:S1", "fault:S4", "fault:S5")
async def test_a_client_that_loses_its_socket_again_and_again_misses_and_repeats_nothing(
    thread: Thread, session: str, settings: LazySettings, every: Callable[..., None]
) -> None:
    every(poll=0.2)
    layer = settings.CHANNEL_LAYERS["default"]
    settings.CHANNEL_LAYERS = {"default": {**layer, "BACKEND": "tests.integration.live.ChaosLayer"}}
    run = await query(make_run, thread)
    total, dice = 2000, random.Random(11)

    async def produce() -> None:
        written = 0
        while written < total:
            count = min(dice.randint(1, 20), total - written)
            await query(say, run, *["w"] * count)
            written += count
        await query(finish, run)

    got: list[int] = []
    async with asyncio.TaskGroup() as group:
        group.create_task(produce())
        while len(got) <= total:
            async with Client(thread.pk, session) as client:
                await client.attach(**({run_name(run): got[-1]} if got else {}))
                for _ in range(dice.randint(20, 200)):
                    got += positions(await client.events(run_name(run), 1, timeout=10))
                    if len(got) > total:
                        break
    assert got == list(range(total + 1))


def test_a_name_reads_as_the_client_writes_it() -> None:
    run_id = uuid4()
    assert str(Name("run", run_id)) == f"run:{run_id}"
