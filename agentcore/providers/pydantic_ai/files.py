"""The files of a message: as bytes, by their address, or by name where the model is not given them."""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

import httpx2
from pydantic_ai.messages import (
    AudioUrl,
    BinaryContent,
    DocumentMediaType,
    DocumentUrl,
    FileUrl,
    ImageUrl,
    ModelMessage,
    ModelRequest,
    ModelRequestPart,
    UserContent,
    UserPromptPart,
    VideoUrl,
)
from pydantic_ai.models import download_item

from ...values.parts import FilePart

__all__ = ["UNKNOWN", "UNREADABLE", "content_of", "media_type_of", "without_unreadable"]

UNKNOWN = "application/octet-stream"
UNREADABLE = (ValueError, httpx2.HTTPError)
"""What pydantic-ai raises where it reads an address itself, for a model that does not, and cannot."""
DOCUMENTS = frozenset(get_args(DocumentMediaType))
READS = {"image": "supports_image_input", "audio": "supports_audio_file_input", "video": "supports_video_input"}
URLS: Mapping[str, type[ImageUrl | AudioUrl | VideoUrl]] = {"image": ImageUrl, "audio": AudioUrl, "video": VideoUrl}

Content = str | BinaryContent | ImageUrl | AudioUrl | VideoUrl | DocumentUrl


def content_of(part: FilePart, loaded: Mapping[str, bytes | str], profile: Mapping[str, Any]) -> Content:
    """Return a file as the model is sent it: a note with its name where it is not loaded, or not for this model.

    `profile` says what the model reads; a file that it refuses would have every later request of its thread refused.
    """
    media_type = media_type_of(part)
    given = loaded.get(part.ref)
    if not given:
        return _note(part, media_type)
    if not _reads(media_type, profile):
        return _note(part, media_type, "this model cannot read it")
    if isinstance(given, bytes):
        return BinaryContent(given, media_type=media_type)
    kind = URLS.get(media_type.partition("/")[0], DocumentUrl)
    return kind(given, media_type=media_type)


async def without_unreadable(messages: Sequence[ModelMessage]) -> list[ModelMessage]:
    """Return the messages with a note in the place of each file whose address cannot be read from here.

    It stays in its thread: a request that it made impossible would make every later one impossible too.
    """
    return [
        replace(message, parts=[await _readable_part(part) for part in message.parts])
        if isinstance(message, ModelRequest)
        else message
        for message in messages
    ]


async def _readable_part(part: ModelRequestPart) -> ModelRequestPart:
    if not isinstance(part, UserPromptPart) or isinstance(part.content, str):
        return part
    return replace(part, content=[await _readable(item) for item in part.content])


async def _readable(item: UserContent) -> UserContent:
    if not isinstance(item, FileUrl):
        return item
    try:
        await download_item(item, data_format="bytes")
    except UNREADABLE:
        address = item.url.partition("?")[0]  # what follows may be a key
        return _note(FilePart(url=address), item.media_type, "its address cannot be read")
    return item


def media_type_of(part: FilePart) -> str:
    """Return what a file says it is, or what its name says."""
    if part.media_type:
        return part.media_type
    guessed, _ = mimetypes.guess_type(part.filename or part.url)
    return guessed or UNKNOWN


def _reads(media_type: str, profile: Mapping[str, Any]) -> bool:
    flag = READS.get(media_type.partition("/")[0])
    if flag is not None:
        return bool(profile.get(flag, True))
    documents = profile.get("supported_document_media_types", DOCUMENTS)
    return bool(profile.get("supports_document_input", True)) and media_type in documents


def _note(part: FilePart, media_type: str, why: str = "") -> str:
    name = part.filename or part.url.partition("?")[0] or part.file_id  # a query may hold a key
    return f"[attached file: {name} ({media_type}){f'; {why}' if why else ''}]"
