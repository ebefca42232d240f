"""The demo's ASGI application: pages and API over HTTP, threads over websockets."""

from __future__ import annotations

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "supportdemo.settings")
# Before anything that imports models.
django_application = get_asgi_application()

from channels.routing import ProtocolTypeRouter  # noqa: E402

from agentcore.routing import websocket_application  # noqa: E402

from .edge import FixRootPath, LimitBody, StaticFiles  # noqa: E402

application = FixRootPath(
    ProtocolTypeRouter(
        {
            "http": LimitBody(StaticFiles(django_application)),
            "websocket": websocket_application(),
        }
    )
)
