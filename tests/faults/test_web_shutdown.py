"""A web server told to stop: requests end, sockets are told, and what a client got no answer to can be asked again."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import AbstractUser
from django.db import connection
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from agentcore.models import Message, Run, Thread
from agentcore.realtime.database import query
from tests.faults import postgres
from tests.faults.browser import Browser
from tests.integration.sockets import log_in, make_thread
from tests.integration.test_socket_servers import address, receive, serve
from tests.stack import Stack, wait_for

GOING_AWAY = {"uvicorn": {1012}, "daphne": {1001, 1006, 1012}}  # daphne sends no close frame, so the client sees 1006


@contextmanager
def thread_locked(thread: Thread) -> Iterator[None]:
    """Hold up every message to a thread."""
    locker = connection.copy()
    with locker.cursor() as cursor:
        cursor.execute("BEGIN" if locker.vendor == "postgresql" else "BEGIN IMMEDIATE")
        if locker.vendor == "postgresql":
            cursor.execute("SELECT 1 FROM agentcore_thread WHERE id = %s FOR UPDATE", [thread.pk])
        try:
            yield
        finally:
            cursor.execute("ROLLBACK")
            locker.close()


@pytest.mark.own_workers
@pytest.mark.covers("fault:O3", "promise:P1")
@pytest.mark.parametrize("server", ["daphne", "uvicorn"])
def test_a_request_that_is_under_way_is_finished_or_can_be_sent_again(
    server: str, stack: Stack, thread: Thread, user: AbstractUser
) -> None:
    web = serve(stack, server)
    browser, answers = Browser.of(web.url, user), []
    request = threading.Thread(target=lambda: answers.append(browser.send(thread, key="once")))
    with thread_locked(thread):
        request.start()
        if connection.vendor == "postgresql":
            wait_for(postgres.waiting_for_a_lock, 10, "the request to be under way")
        else:
            request.join(1)
        os.kill(web.pid, signal.SIGTERM)
        wait_for(lambda: Browser(web.url, "").get("/admin/login/", timeout=2).status == 0, 10, "it to take no more")
    request.join(30)
    wait_for(lambda: not web.alive, 30, "the server to end")
    (answer,) = answers
    assert answer.status == 201 if server == "uvicorn" else answer.status in (0, 201, 500, 503)
    again = Browser.of(serve(stack, server).url, user).send(thread, key="once")
    assert again.status in (200, 201) and Run.objects.count() == Message.objects.count() == 1
    if answer.status == 201:
        assert again.body["id"] == answer.body["id"]


@pytest.mark.own_workers
@pytest.mark.django_db(transaction=True)
@pytest.mark.covers("fault:O3")
@pytest.mark.parametrize("server", ["daphne", "uvicorn"])
async def test_sockets_are_told_to_come_back(server: str, stack: Stack, user: Any, settings: LazySettings) -> None:
    thread = await query(make_thread, user)
    cookie = {"Cookie": f"{settings.SESSION_COOKIE_NAME}={await query(log_in, user)}"}
    web = await asyncio.to_thread(serve, stack, server)
    async with await connect(address(web, thread), additional_headers=cookie, origin=web.url) as socket:  # type: ignore[arg-type]
        await socket.send('{"type":"attach"}')
        await receive(socket)
        os.kill(web.pid, signal.SIGTERM)
        with pytest.raises(ConnectionClosed):
            while True:
                await receive(socket)
        assert socket.close_code in GOING_AWAY[server]
    await asyncio.to_thread(wait_for, lambda: not web.alive, 30, "the server to end")
