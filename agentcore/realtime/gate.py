"""What stands before a project's websockets: whose pages may open them, and what becomes of an unknown address."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

from channels.routing import URLRouter
from channels.security.websocket import WebsocketDenier
from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.core.handlers.asgi import ASGIRequest
from django.urls import re_path
from django.utils.http import is_same_domain

__all__ = ["SameOrigin", "SocketRouter"]


class SameOrigin:
    """Refuse a socket that a page of another origin opens; scheme, host and port are compared, as for a POST.

    The origin must be the request's own (`ALLOWED_HOSTS`, and behind a proxy `SECURE_PROXY_SSL_HEADER` and
    `USE_X_FORWARDED_HOST`, as Django reads them) or one of `CSRF_TRUSTED_ORIGINS`. A client that names no origin is no
    browser, for browsers always do: it is let through, and has to log in like any other.
    """

    def __init__(self, application: Any) -> None:
        self.application = application

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        application = self.application if is_same_origin(scope) else WebsocketDenier()
        await application(scope, receive, send)


class SocketRouter(URLRouter):  # type: ignore[misc]
    """Channels' router, which closes a socket to an address it does not know instead of failing."""

    def __init__(self, routes: Iterable[Any]) -> None:
        super().__init__([*routes, re_path("", WebsocketDenier.as_asgi())])

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        path = scope.get("path_remaining", scope["path"])
        if "path_remaining" not in scope and not path.startswith(scope.get("root_path", "")):
            await WebsocketDenier()(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def is_same_origin(scope: Mapping[str, Any]) -> bool:
    """Whether a handshake comes from a page of this site, of an origin it trusts, or from no page at all."""
    origins = [value for name, value in scope["headers"] if name.lower() == b"origin"]
    if len(origins) != 1:
        return not origins
    origin = origins[0].decode("latin1").lower()
    return origin == _own_origin(scope) or any(_matches(origin, trusted) for trusted in settings.CSRF_TRUSTED_ORIGINS)


def _own_origin(scope: Mapping[str, Any]) -> str:
    # Django reads hosts and proxies' headers of HTTP requests only, and a handshake is one.
    scheme = {"ws": "http", "wss": "https"}.get(scope.get("scheme", "ws"), "http")
    try:
        request = ASGIRequest({**scope, "type": "http", "method": "GET", "scheme": scheme}, BytesIO())
        host = request.get_host()
    except (DisallowedHost, UnicodeDecodeError):
        return ""
    return f"{request.scheme}://{host.lower()}"


def _matches(origin: str, trusted: str) -> bool:
    if "*" not in trusted:
        return origin == trusted.lower()
    try:
        given, pattern = urlsplit(origin), urlsplit(trusted)
    except ValueError:
        return False
    return given.scheme == pattern.scheme and is_same_domain(given.netloc, pattern.netloc.lstrip("*"))
