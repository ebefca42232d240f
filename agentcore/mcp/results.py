"""What a server answers to a call, as JSON data; of bytes it is said what they are and how many, and none is kept."""

from __future__ import annotations

from typing import Any

from mcp_types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
)


def result_of(answer: CallToolResult) -> Any:
    """Return an answer as the result of the call: its structured content, its text, or a list of all that it holds.

    Structured content that the text only repeats stands for it; what comes beside it, such as an image, is kept.
    """
    blocks = [_block(item) for item in answer.content]
    only_text = all(isinstance(item, TextContent) for item in answer.content)
    if answer.structured_content is not None:
        return answer.structured_content if only_text else {"structured": answer.structured_content, "content": blocks}
    return blocks[0] if len(blocks) == 1 and only_text else blocks


def text_of(answer: CallToolResult) -> str:
    """Return the text of an answer, as one."""
    return "\n".join(item.text for item in answer.content if isinstance(item, TextContent))


def _block(item: Any) -> Any:
    match item:
        case TextContent():
            return item.text
        case ImageContent() | AudioContent():
            return {"type": item.type, "mime_type": item.mime_type, "bytes": _size(item.data)}
        case EmbeddedResource(resource=BlobResourceContents() as held):
            return {"type": "resource", "uri": held.uri, "mime_type": held.mime_type, "bytes": _size(held.blob)}
        case EmbeddedResource(resource=TextResourceContents() as held):
            return {"type": "resource", "uri": held.uri, "mime_type": held.mime_type, "text": held.text}
        case ResourceLink():
            about = {"type": "resource_link", "uri": item.uri, "name": item.name, "mime_type": item.mime_type}
            return about if item.description is None else {**about, "description": item.description}
        case _:
            return {"type": str(getattr(item, "type", "unknown"))}


def _size(base64: str) -> int:
    """Return how many bytes a text of base64 stands for."""
    return len(base64) * 3 // 4 - base64[-2:].count("=")
