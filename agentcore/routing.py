"""The websocket routes: a plain list, for the project to wrap and to nest as it likes."""

from __future__ import annotations

from django.urls import path

from .realtime.consumers import ThreadConsumer

__all__ = ["websocket_urlpatterns"]

websocket_urlpatterns = [path("ws/agent/threads/<uuid:thread_id>/", ThreadConsumer.as_asgi())]
