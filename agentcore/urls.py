"""agentcore's HTTP addresses; include them under any prefix."""

from __future__ import annotations

from django.urls import path

from .web.api import api

app_name = "agentcore"
urlpatterns = [path("", api.urls)]
