"""The application under test, as a web process of a test serves it."""

from __future__ import annotations

from supportdemo.asgi import application

__all__ = ["application"]
