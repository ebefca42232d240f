"""The websockets: the whole application for a project's `asgi.py`, and its parts for one that has its own."""

from __future__ import annotations

from typing import Any

from channels.auth import AuthMiddlewareStack
from django.urls import path

from .realtime.consumers import ThreadConsumer
from .realtime.gate import SameOrigin, SocketRouter

__all__ = ["SameOrigin", "SocketRouter", "websocket_application", "websocket_urlpatterns"]

websocket_urlpatterns = [path("ws/agent/threads/<uuid:thread_id>/", ThreadConsumer.as_asgi())]
"""The routes as a plain list, to wrap and to nest."""


def websocket_application(*routes: Any) -> SameOrigin:
    """Return the application for the protocol "websocket": origins checked, users known, unknown addresses closed.

    `routes` are the project's own, beside agentcore's.
    """
    return SameOrigin(AuthMiddlewareStack(SocketRouter([*websocket_urlpatterns, *routes])))
