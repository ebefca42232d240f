"""What a model is shown of its thread: whole turns, each call with its result behind it, in names that all take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ...declaration.model import ModelMessage
from ...models import Message
from ...providers import names
from ...values.parts import Part, ToolCallPart, ToolResultPart


def shown(messages: Sequence[Message], order: int, recent: int) -> tuple[ModelMessage, ...]:
    """Return what a model is shown of the messages in turn `order`: the newest, whole turns, and all of its own.

    No call is shown without its result, nor a result without its call.
    """
    turn = [message for message in messages if message.order == order]
    older = [message for message in messages if message.order < order]
    room = max(recent - len(turn), 0)
    if len(older) > room:
        cut = older[len(older) - room - 1].order
        older = [message for message in older if message.order > cut]
    return tuple(_paired([*older, *turn]))


def _paired(messages: Sequence[Message]) -> Iterator[ModelMessage]:
    """Yield the messages with the results of each one's calls right behind it, in the order of the calls.

    A result may have come long after: somebody found out what became of the call, or another call took longer.
    """
    # By the run, too: an id of a call is one run's only.
    results = {
        (message.run_id, part.call_id): _as_message(message, [part])
        for message in messages
        for part in message.parts
        if isinstance(part, ToolResultPart)
    }
    for message in messages:
        parts, answers = [], []
        for part in message.parts_with_details:
            if isinstance(part, ToolResultPart):
                continue  # it stands with its call
            if isinstance(part, ToolCallPart):
                answer = results.pop((message.run_id, part.call_id), None)
                if answer is None:
                    continue
                answers.append(answer)
            parts.append(part)
        if parts:
            yield _as_message(message, parts)
        yield from answers


def _as_message(item: Message, parts: Sequence[Part]) -> ModelMessage:
    details = item.provider_details or {}
    sent = tuple(_sent(part) for part in parts)
    return ModelMessage(item.author_kind, _author(item), sent, details.get("origin", ""), details.get("response"))


def _author(message: Message) -> str:
    return names.tool_name(message.author_name) if message.author_kind == "tool" else message.author_name


def _sent(part: Part) -> Part:
    """Return a part as every provider takes it: one refused name would have each later request refused."""
    if not isinstance(part, ToolCallPart | ToolResultPart):
        return part
    return replace(part, name=names.tool_name(part.name), call_id=names.call_id(part.call_id))
