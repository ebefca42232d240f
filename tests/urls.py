"""The addresses under test: the demo's, which hold agentcore's at `agent/` and the admin's at `admin/`."""

from __future__ import annotations

from supportdemo.urls import urlpatterns

__all__ = ["urlpatterns"]
