"""All that the database keeps, as one text: what must never be said is looked for in it."""

from __future__ import annotations

import json

from django.apps import apps

from agentcore.streams.models import Record


def kept() -> str:
    """Every column of every row of agentcore's, records of the logs as the text that every transport sends."""
    found: list[str] = []
    for model in (
        *apps.get_app_config("agentcore").get_models(),
        *apps.get_app_config("agentcore_streams").get_models(),
    ):
        for row in model._default_manager.values():
            if model is Record:
                row["data"] = bytes(row["data"]).decode()
            found.append(f"{model.__name__} {json.dumps(row, default=str, ensure_ascii=False)}")
    return "\n".join(found)
