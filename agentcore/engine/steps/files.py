"""Files on their way to a model, loaded by the application, and on their way back, saved by it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence

from ...conf import get_settings
from ...declaration.agent import AgentDefinition
from ...declaration.files import NewFile
from ...declaration.model import FileProduced, ModelMessage
from ...exceptions import RunError
from ...values.logextra import log_extra
from ...values.parts import FilePart
from .. import application
from ..application import TRY_AGAIN, Hook
from ..runtime import Runtime
from ..snapshot import Snapshot

logger = logging.getLogger("agentcore.engine")

NOT_READ = f"The files of this conversation could not be read. {TRY_AGAIN}"
NOT_KEPT = f"A file of the answer could not be kept. {TRY_AGAIN}"
LOADS = Hook("The loader of files", code="files_failed", message=NOT_READ)
SAVES = Hook("The saver of files", code="files_failed", message=NOT_KEPT)
TOO_LARGE = "The files are too large for the model. Attach fewer, or smaller ones."


async def load(
    definition: AgentDefinition, messages: Sequence[ModelMessage], turn: int, state: Snapshot, runtime: Runtime
) -> dict[str, bytes | str]:
    """Return what the application gives of the files that the messages name, by their `ref`, the newest first.

    The last `turn` messages are the run's own turn: raises `RunError` where its files take more than `FILES_LIMIT`
    bytes. Of an older file that does not fit, the model learns the name.
    """
    store = definition.files
    loaded: dict[str, bytes | str] = {}
    if store is None or store.load is None:
        return loaded
    own = {part.ref for part in _named(messages[len(messages) - turn :])}
    size, limit = 0, get_settings().files_limit
    for part in _named(reversed(messages)):
        given = await application.ask(LOADS, state.run, runtime, store.load, part, state.about, read=store.loaded)
        if given is None:
            continue
        if size + len(given) <= limit:
            loaded[part.ref] = given
            size += len(given)
        elif part.ref in own:
            detail = f"The files of this turn take {size + len(given)} bytes or more; FILES_LIMIT is {limit}."
            raise RunError(TOO_LARGE, code="files_too_large", detail=detail)
        else:
            break
    return loaded


async def save(
    definition: AgentDefinition, file: FileProduced, new: NewFile, state: Snapshot, runtime: Runtime
) -> FilePart | None:
    """Have the application keep a file that the model made; None, and a line in the log, where it keeps none."""
    store = definition.files
    if store is None or store.save is None:
        about = log_extra("file_not_kept", state.run.pk, state.run.attempt)
        logger.warning("the model made a file, and agent %s has no Files(save=…)", definition.name, extra=about)
        return None
    kept = await application.ask(SAVES, state.run, runtime, store.save, new, state.about, read=store.saved)
    return FilePart(kept, file.filename, file.media_type, provider_details=file.provider_details)


def _named(messages: Iterable[ModelMessage]) -> Iterator[FilePart]:
    seen: set[str] = set()
    for message in messages:
        for part in message.parts:
            if isinstance(part, FilePart) and part.ref and part.ref not in seen:
                seen.add(part.ref)
                yield part
