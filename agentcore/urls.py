"""agentcore's HTTP addresses; include them under any prefix."""

from __future__ import annotations

from .web.api import api

app_name = "agentcore"
urlpatterns = api.urls[0]
