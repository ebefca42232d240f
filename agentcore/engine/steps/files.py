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
TOO_LARGE = "The files of this conversation are too large for the model. Attach fewer, or smaller ones."


async def load(
    definition: AgentDefinition, messages: Sequence[ModelMessage], state: Snapshot, runtime: Runtime
) -> dict[str, bytes | str]:
    """Return what the application gives of the files that the messages name, by their `file_id`.

    Raises `RunError` where that is more than `FILES_LIMIT` bytes in all.
    """
    store = definition.files
    loaded: dict[str, bytes | str] = {}
    if store is None or store.load is None:
        return loaded
    for part in _named(messages):
        given = await application.ask(LOADS, state.run, runtime, store.load, part, state.about, read=store.loaded)
        if given is not None:
            loaded[part.file_id] = given
        size, limit = sum(map(len, loaded.values())), get_settings().files_limit
        if size > limit:
            detail = f"The files take {size} bytes or more; FILES_LIMIT is {limit}."
            raise RunError(TOO_LARGE, code="files_too_large", detail=detail)
    return loaded


def new(file: FileProduced, key: str) -> NewFile:
    """Return a file that the model made as the application is given it."""
    return NewFile(file.data or b"", file.media_type, file.filename, key)


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
            if isinstance(part, FilePart) and part.file_id and part.file_id not in seen:
                seen.add(part.file_id)
                yield part
