"""Which pages may open a socket, and what becomes of an address that is none."""

from __future__ import annotations

from typing import Any

import pytest
from channels.testing import WebsocketCommunicator
from django.conf import LazySettings
from django.urls import path

from agentcore.realtime.gate import SameOrigin, SocketRouter, is_same_origin

pytestmark = pytest.mark.once


def handshake(origin: str | None, host: str = "desk.example", scheme: str = "ws", **headers: str) -> dict[str, Any]:
    given = {"host": host, **({"origin": origin} if origin is not None else {})}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    encoded = [(name.encode(), value.encode("latin1")) for name, value in given.items()]
    return {"type": "websocket", "path": "/ws/", "scheme": scheme, "headers": encoded, "query_string": b""}


@pytest.fixture(autouse=True)
def _hosts(settings: LazySettings) -> None:
    settings.ALLOWED_HOSTS = ["desk.example", "127.0.0.1", "[::1]"]
    settings.CSRF_TRUSTED_ORIGINS = ["https://partner.example:8443", "https://*.shop.example"]


@pytest.mark.covers("fc:E7")
@pytest.mark.parametrize(
    "origin, host",
    [
        ("http://desk.example", "desk.example"),
        ("http://desk.example:8000", "desk.example:8000"),
        ("HTTP://Desk.Example", "desk.example"),
        ("http://[::1]:8000", "[::1]:8000"),
        ("https://partner.example:8443", "desk.example"),
        ("https://eu.shop.example", "desk.example"),
        (None, "desk.example"),
    ],
)
def test_a_page_of_this_origin_or_a_trusted_one_is_let_in(origin: str | None, host: str) -> None:
    assert is_same_origin(handshake(origin, host))


@pytest.mark.covers("fc:E7")
@pytest.mark.parametrize(
    "origin, host",
    [
        ("http://desk.example:8001", "desk.example:8000"),
        ("http://desk.example:8001", "desk.example"),
        ("http://desk.example", "desk.example:8000"),
        ("https://desk.example", "desk.example"),
        ("http://other.example", "desk.example"),
        ("http://other.example", "other.example"),
        ("http://desk.example.evil.example", "desk.example"),
        ("http://evil.desk.example", "desk.example"),
        ("https://partner.example", "desk.example"),
        ("http://partner.example:8443", "desk.example"),
        ("http://eu.shop.example", "desk.example"),
        ("https://evilshop.example", "desk.example"),
        ("https://eu.shop.example:444", "desk.example"),
        ("null", "desk.example"),
        ("", "desk.example"),
        ("http://", "desk.example"),
        ("http://[", "desk.example"),
        ("\xff\x00", "desk.example"),
        ("http://desk.example", "desk.example, evil.example"),
    ],
)
def test_any_other_page_is_not(origin: str, host: str) -> None:
    assert not is_same_origin(handshake(origin, host))


@pytest.mark.covers("fc:E7")
def test_two_origins_are_none() -> None:
    scope = handshake("http://desk.example")
    assert not is_same_origin({**scope, "headers": [*scope["headers"], (b"Origin", b"http://evil.example")]})


@pytest.mark.covers("fc:E7")
def test_a_proxy_that_is_trusted_says_which_scheme_and_host(settings: LazySettings) -> None:
    behind = {"x_forwarded_proto": "https", "x_forwarded_host": "desk.example"}
    assert not is_same_origin(handshake("https://desk.example", "127.0.0.1:8000", **behind))
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    assert is_same_origin(handshake("https://desk.example", "desk.example", **behind))
    assert not is_same_origin(handshake("http://desk.example", "desk.example", **behind))
    settings.USE_X_FORWARDED_HOST = True
    assert is_same_origin(handshake("https://desk.example", "127.0.0.1:8000", **behind))
    assert is_same_origin(handshake("https://desk.example", "desk.example", scheme="wss"))


async def accepting(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    await receive()


async def opens(application: Any, address: str, headers: Any = ()) -> bool:
    socket = WebsocketCommunicator(application, address, headers=list(headers))
    opened, _ = await socket.connect()
    await socket.disconnect()
    return bool(opened)


@pytest.mark.covers("fc:E6")
async def test_an_address_that_is_none_is_closed_and_nothing_fails() -> None:
    inner = SocketRouter([path("b/<uuid:id>/", accepting)])
    router = SocketRouter([path("a/<uuid:id>/", accepting), path("nested/", inner)])
    name = "0195a1f0-0000-7000-8000-000000000001"
    for address in (f"/a/{name}/", f"/nested/b/{name}/"):
        assert await opens(router, address)
    for address in ("/", "/nope", "/a/x/", f"/a/{name}", f"/a/{name}/more", "/nested/", "/nested/b/x/", "/%00", "/ä/"):
        assert not await opens(router, address)


@pytest.mark.covers("fc:E7")
async def test_a_strange_page_is_refused_before_anybody_is_asked() -> None:
    async def never(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("the application was asked")

    assert not await opens(SameOrigin(never), "/", [(b"host", b"desk.example"), (b"origin", b"http://evil.example")])
    assert await opens(SameOrigin(accepting), "/", [(b"host", b"desk.example")])
