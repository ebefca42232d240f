"""agentcore's HTTP addresses; include them under any prefix."""

from __future__ import annotations

from .web.api import api
from .web.problems import urls_of

app_name = "agentcore"
urlpatterns = urls_of(api)
