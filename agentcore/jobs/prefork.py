"""What a process does before it forks one for a run, so that the forked one need not do it: load, compile, build."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable

from ..database import dialect
from ..database.compiled import Compiled
from ..declaration import registry
from ..journal import fence, parts
from ..journal.batch import ORDER
from ..providers.named import unusable
from ..streams import hub
from ..values.logextra import log_extra

logger = logging.getLogger("agentcore.jobs")


def prepare() -> None:
    """Do what every process forked from this one would do again; opens no connection and starts no thread.

    It asks neither database nor Redis, which may be away, and never raises: what failed is done after the fork.
    """
    for part in PARTS:
        try:
            part()
        except Exception:
            logger.warning("each run will do for itself what failed here", exc_info=True, extra=log_extra("unprepared"))
    gc.collect()
    gc.freeze()  # a collection would write to all that is loaded, and have the forked process copy it


def _describe_agents() -> None:
    for name in registry.names():
        definition = registry.get(name)
        _ = definition.tool_specs, definition.output_schema


def make_models() -> None:
    """Make the models that agents name, and say in the log which cannot be made: their runs will fail."""
    for agent, missing in unusable():
        logger.warning("agent %s cannot ask its model. %s", agent, missing, extra=log_extra("model_not_configured"))


def _compile_queries() -> None:
    for query in Compiled.every:
        query.prepare()


def _write_statements() -> None:
    """Make the texts that all batches have in common: those of moves differ from commit to commit."""
    fence.fenced(dialect.clock())
    parts.recording()
    for model in ORDER:
        parts.inserting(model)


PARTS: tuple[Callable[[], object], ...] = (
    hub.channel_layer,  # its module is loaded with it; it connects with the first hint
    _describe_agents,
    make_models,
    _compile_queries,
    _write_statements,
)
