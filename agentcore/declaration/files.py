"""How an application's files reach a model, and how those that a model makes reach the application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ..exceptions import UserError
from ..values.parts import FilePart
from . import declared
from .context import RunContext


@dataclass(frozen=True)
class NewFile:
    """A file that a model made; the same one, saved again after a crash, comes under the same `key`."""

    data: bytes
    media_type: str
    filename: str
    key: str


Loaded = bytes | str | None
"""What a loader gives of a file: its bytes, an address at which the provider can read it, or None for nothing."""


@dataclass(frozen=True)
class Files:
    """The application's own store of files, as two functions; either may be left out.

    `load(part, about)` gives what a model may read of a file that a message names, also by a `url`: it decides
    whether this run may read that one, for the name comes from whoever wrote the message. What it gives nothing of is
    told to the model by its name alone. `save(new, about)` keeps a file that a model made and returns its `file_id`.
    """

    load: Callable[[FilePart, RunContext], Loaded | Awaitable[Loaded]] | None = None
    save: Callable[[NewFile, RunContext], str | Awaitable[str]] | None = None

    def __post_init__(self) -> None:
        """Raise `UserError` for what cannot be called so."""
        if self.load is not None:
            declared.function("Files: load", self.load, "part, about")
        if self.save is not None:
            declared.function("Files: save", self.save, "new, about")

    def loaded(self, given: object) -> Loaded:
        """Return what `load` gave; raises `UserError` for anything else."""
        if isinstance(given, bytearray | memoryview):
            return bytes(given)
        if given is not None and not isinstance(given, bytes | str):
            raise UserError(f"Files: load gave {declared.shown(given)}: return bytes, an address, or None.")
        return given or None

    def saved(self, given: object) -> str:
        """Return what `save` gave; raises `UserError` for what is no name of a file."""
        if not isinstance(given, str) or not given.strip():
            raise UserError(f"Files: save gave {declared.shown(given)}: return the file_id, as text.")
        return given
