"""What the agent is given to read besides the conversation: attached files and the knowledge base."""

from __future__ import annotations

import logging

from django.db import DatabaseError

from agentcore import ContextBlock, FilePart, RunContext
from supportdemo.files.models import Attachment
from supportdemo.files.store import read
from supportdemo.knowledge.retriever import get_retriever
from supportdemo.problems import Problem
from supportdemo.providers import choose_model, reads_files

logger = logging.getLogger("supportdemo.cases")
MAX_CHARACTERS = 24_000
FILE = "file: "
KNOWLEDGE = "knowledge: "


def case_files(ctx: RunContext) -> list[ContextBlock]:
    """Give the files of the case: those of this message first, up to a limit for all of them together."""
    now = [str(file_id) for file_id in ctx.metadata.get("files", [])]
    attachments = list(Attachment.objects.filter(case__thread_id=ctx.thread_id).defer("file"))
    attachments.sort(key=lambda attachment: str(attachment.pk) not in now)
    blocks: list[ContextBlock] = []
    left = MAX_CHARACTERS
    for attachment in attachments:
        text = attachment.text[:left] or f"(No text was read. {attachment.error})"
        left -= len(attachment.text[:left])
        metadata = {
            "file_id": str(attachment.pk),
            "with_prompt": str(attachment.pk) in now,
            "readable": bool(attachment.text),
        }
        blocks.append(ContextBlock(FILE + attachment.original_name, text, metadata))
        if left <= 0:
            break
    return blocks


def picture(part: FilePart, ctx: RunContext) -> bytes | None:
    """Give a picture or a scan of this message to a model that can look at it; of other files the text is enough.

    Only files of the case are found. Those of earlier messages are not given again: what was seen in them has been
    said, and one that the provider refuses fails one answer, and not all that follow.
    """
    if part.file_id not in ctx.metadata.get("files", []) or not reads_files(choose_model()):
        return None
    pictures = Attachment.objects.filter(case__thread_id=ctx.thread_id, status=Attachment.Status.PICTURE)
    found = next((attachment for attachment in pictures if str(attachment.pk) == part.file_id), None)
    try:
        return read(found) if found is not None else None
    except Problem:  # the store has lost it; the store's log says so, and the model is told the name
        return None


def knowledge(ctx: RunContext) -> list[ContextBlock]:
    """Give the policy articles that match the prompt; a search that fails costs the articles, not the answer."""
    try:
        passages = get_retriever().search(ctx.prompt, ctx.user, limit=3)
    except DatabaseError:
        logger.exception("knowledge search failed", extra={"run_id": str(ctx.run_id), "action": "knowledge"})
        return []
    return [
        ContextBlock(KNOWLEDGE + passage.title, passage.text, {"article": passage.article_id}) for passage in passages
    ]
