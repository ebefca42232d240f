"""A server's tool as it is shown: what its server may not change between a person's yes and the call."""

from __future__ import annotations

from dataclasses import dataclass

from mcp_types import Tool as ServerTool

from ..values import jsontext


@dataclass(frozen=True)
class Shown:
    """A tool by its server's name for it, and the digest of all that its server says of it."""

    name: str
    digest: str

    @classmethod
    def of(cls, tool: ServerTool) -> Shown:
        """Return a tool with the digest of its name, title, description, arguments and annotations."""
        notes = tool.annotations.model_dump(mode="json", by_alias=True) if tool.annotations is not None else None
        said = [tool.name, tool.title, tool.description, tool.input_schema, notes]
        return cls(tool.name, jsontext.digest(jsontext.canonical(jsontext.clean(said))))
