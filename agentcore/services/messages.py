"""Messages: save one without starting a run, and read a thread's history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from ..access import SYSTEM, get_policy, require
from ..database.again import unit
from ..exceptions import Invalid, NotAllowed
from ..models import Message, Thread
from ..models.message import AUTHORS, compose
from ..values import parts
from ..values.parts import FilePart, Part, ReasoningPart, SourcePart, TextPart, ToolCallPart, ToolResultPart
from . import creating, pages, sizes, threads
from .creating import Entry
from .twins import twin

WRITES: Mapping[str, tuple[type[Part], ...]] = {
    "user": (TextPart, FilePart, SourcePart),
    "system": (TextPart, FilePart, SourcePart),
    "agent": (TextPart, FilePart, SourcePart, ReasoningPart, ToolCallPart),
    "tool": (TextPart, FilePart, SourcePart, ToolResultPart),
}
"""What an author's messages are made of: only a model calls tools, and only a tool answers a call."""

Content = str | Sequence[Part | dict[str, Any]]


@dataclass(frozen=True)
class MessagePage:
    """Messages, oldest first; `before` is where the next older page ends, None at the start of the thread."""

    messages: list[Message]
    before: str | None


def as_parts(content: Content, author: str = "user") -> tuple[Part, ...]:
    """Return content as typed parts; raises `Invalid` where it is empty, too large, or not for such an author."""
    found = (TextPart(content),) if isinstance(content, str) else parts.parse([_plain(item) for item in content])
    foreign = next((part for part in found if not isinstance(part, WRITES[author])), None)
    if foreign is not None:
        raise Invalid(f"A message of author {author} has no part of type {foreign.type}.")
    text = parts.text_of(found)
    if not text.strip() and not any(not isinstance(part, TextPart) for part in found):
        raise Invalid("The message is empty. Write something, or attach a file.")
    sizes.message(found)
    return found


@unit
def save(thread: Thread | UUID | str, content: Content, *, user: Any, author: str = "user", name: str = "") -> Message:
    """Save a message as the thread's next turn, without starting a run.

    A person writes as the author `user`, under their own name. The other authors, under any
    `name`, are for SYSTEM and for users whom the access policy's `may_write` allows. Raises
    `NotFound`, `NotAllowed`, or `Invalid` for content that such an author does not write.
    """
    if author not in dict(AUTHORS):
        raise Invalid(f"The author must be one of {', '.join(dict(AUTHORS))}.")
    found = threads.get(thread, user=user)
    if user is not SYSTEM and not get_policy().may_write(user, found, author):
        raise NotAllowed(f"You may read this thread, but not write to it as {author}.")
    if author == "user" and user is not SYSTEM and name not in ("", user.get_username()):
        raise NotAllowed("A person writes under their own name.")
    typed = as_parts(content, author)
    message = in_turn(found, typed, user=user, author=author, name=name)
    with creating.whole():
        creating.add(Entry(found, message))
    return message


def list_(thread: Thread | UUID | str, *, user: Any, before: str | None = None, limit: int = 50) -> MessagePage:
    """Return the newest messages before a place (`"order.step_order"`), oldest first.

    A page has at most `limit` messages, and at most `PAGE_LIMIT` bytes unless it has a single message.
    Raises `NotFound` for a thread `user` does not see, and `Invalid` for a `before` that is no place.
    """
    found = threads.get(thread, user=user)
    page = pages.window(found, before, limit, with_runs=False)
    return MessagePage(list(Message.objects.filter(pk__in=page.messages).in_order()), page.before)


def writable(thread: Thread | UUID | str, *, user: Any) -> Thread:
    """Return a thread `user` may write to; raises `NotFound` or `NotAllowed`."""
    found = threads.get(thread, user=user)
    if user is not SYSTEM and not get_policy().may_start(user, found):
        raise NotAllowed("You may read this thread, but not write to it.")
    return found


def in_turn(
    thread: Thread,
    content: tuple[Part, ...],
    *,
    user: Any,
    author: str = "user",
    name: str = "",
    key: str = "",
) -> Message:
    """Return the unsaved message that opens the next turn; `key` is the one it was sent with."""
    require(user)
    person = None if user is SYSTEM else user
    message = compose(
        thread_id=thread.pk,
        run_id=None,
        order=thread.next_order,
        step_order=0,
        author_kind=author,
        author_name=sizes.line(name, "name", sizes.LONGEST_NAME) or (person.get_username() if person else ""),
        content=content,
        author_user_id=person.pk if person else None,
    )
    message.key = key
    return message


def _plain(item: Part | dict[str, Any]) -> Any:
    return item if isinstance(item, dict) else vars(item)


asave = twin(save)
alist = twin(list_)
