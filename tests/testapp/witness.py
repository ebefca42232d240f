"""An RQ worker whose work horses say what they found of their parent's, and what they had to make themselves."""

from __future__ import annotations

import gc
import json
import sys
from typing import Any

from django.db import connections

from agentcore.database import bulk, compiled
from agentcore.jobs.worker import AgentcoreWorker
from agentcore.journal.batch import ORDER

SAYS = "witness: "


class WitnessWorker(AgentcoreWorker):
    """Prints one line of JSON for each job."""

    def perform_job(self, job: Any, queue: Any, *args: Any, **kwargs: Any) -> bool:
        made: list[str] = []
        _note_calls(compiled._Kept, made, lambda query: "a query")
        _note_calls(bulk.Statement, made, lambda statement: statement.text)
        tables = [f"INSERT INTO {model._meta.db_table} " for model in ORDER]
        loaded = set(sys.modules)
        connected = [wrapper.alias for wrapper in connections.all() if wrapper.connection is not None]
        frozen = gc.get_freeze_count() > 0
        done = super().perform_job(job, queue, *args, **kwargs)
        found = {
            "modules": sorted(set(sys.modules) - loaded),
            "made": [text for text in made if text == "a query" or text.startswith(tuple(tables))],
            "connected": connected,
            "frozen": frozen,
        }
        print(SAYS + json.dumps(found), flush=True)
        return done


def _note_calls(kind: Any, made: list[str], what: Any) -> None:
    really = kind.__init__

    def noted(self: Any, *args: Any, **kwargs: Any) -> None:
        really(self, *args, **kwargs)
        made.append(what(self))

    kind.__init__ = noted
