"""The demo's ASGI application: pages and API over HTTP, threads over websockets."""

from __future__ import annotations

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "supportdemo.settings")
# Before anything that imports models.
django_application = get_asgi_application()

from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler  # noqa: E402

from agentcore.routing import websocket_urlpatterns  # noqa: E402

from .edge import FixRootPath, LimitBody  # noqa: E402

application = FixRootPath(
    ProtocolTypeRouter(
        {
            "http": LimitBody(ASGIStaticFilesHandler(django_application)),
            "websocket": AllowedHostsOriginValidator(AuthMiddlewareStack(URLRouter(websocket_urlpatterns))),
        }
    )
)
