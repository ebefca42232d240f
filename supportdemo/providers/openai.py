"""Any OpenAI-compatible provider, through the `openai` SDK's streaming chat completions."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import openai

from agentcore import Usage
from agentcore.exceptions import ModelError
from agentcore.providers import (
    CallRequested,
    ModelEvent,
    ModelRequest,
    OutputDelta,
    OutputProduced,
    ReasoningDelta,
    StepFinished,
    TextDelta,
    UsageReported,
)

from .openai_wire import OUTPUT_TOOL, Body, body_of, model_error, usage_of

logger = logging.getLogger("supportdemo.providers")


CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0


def _transport_errors() -> tuple[type[Exception], ...]:
    """Return what the SDK's transport raises in the middle of a stream; which one it uses depends on its version."""
    found: list[type[Exception]] = [OSError]
    for name in ("httpx2", "httpx"):
        try:
            found.append(__import__(name).HTTPError)
        except ImportError:
            continue
    return tuple(found)


FAILURES: tuple[type[Exception], ...] = (openai.OpenAIError, *_transport_errors())


@dataclass
class _Fragments:
    """A tool call as it arrives, piece by piece."""

    call_id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass
class _Turn:
    """What one response has brought so far."""

    calls: dict[int, _Fragments] = field(default_factory=dict)
    text: str = ""
    finish: str = ""
    refused: bool = False
    usage: Usage = field(default_factory=Usage)
    # What responses before this one have used, in the same call of the engine's.
    spent: Usage = field(default_factory=Usage)

    @property
    def reason(self) -> str:
        """Why the model stopped: some providers say "stop" after a call or a refusal, and the record is no tool."""
        if self.refused:
            return "refusal"
        if self.finish == "stop":
            return "tool_calls" if self.requests else "stop"
        recorded = self.finish in {"tool_calls", "function_call"} and self.outputs and not self.requests
        return "stop" if recorded else self.finish

    @property
    def outputs(self) -> list[_Fragments]:
        return [call for call in self.calls.values() if call.name == OUTPUT_TOOL]

    @property
    def requests(self) -> list[_Fragments]:
        return [call for call in self.calls.values() if call.name != OUTPUT_TOOL]


class OpenAIModel:
    """One model of one provider. Retries are the engine's business, so the SDK makes none."""

    def __init__(self, name: str, *, api_key: str, base_url: str | None = None, provider: str = "openai") -> None:
        self.name = name
        self.provider = provider
        self._api_key = api_key
        self._base_url = base_url

    def __repr__(self) -> str:
        return f"OpenAIModel({self.name!r}, provider={self.provider!r})"

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """Yield one model call's events; raises `ModelError` for what the provider or the network refuses."""
        body = body_of(request)
        # A client for each call: a worker's event loops come and go, and a pool belongs to one of them.
        async with openai.AsyncOpenAI(
            api_key=self._api_key,
            base_url=self._base_url,
            max_retries=0,
            timeout=openai.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
            # The request holds the key and the conversation: they go to the address that was configured, or nowhere.
            http_client=openai.DefaultAsyncHttpxClient(follow_redirects=False),
        ) as client:
            turn = _Turn()
            async with aclosing(self._turn(client, body, turn)) as events:
                async for event in events:
                    yield event
            for call in turn.requests:
                yield CallRequested(call.call_id or f"call_{uuid4().hex[:16]}", call.name, call.arguments or "{}")
            last = turn
            if turn.outputs and not turn.requests:
                if turn.reason == "stop" and not turn.text and not request.feedback:
                    # Many models write nothing beside a call; the customer is owed a reply.
                    last = _Turn(spent=turn.usage)
                    async with aclosing(self._turn(client, _ask_for_text(body, turn), last)) as events:
                        async for event in events:
                            yield event
                yield OutputProduced(_value(turn.outputs[-1].arguments))
            yield StepFinished(last.reason)

    async def _turn(self, client: openai.AsyncOpenAI, body: Body, turn: _Turn) -> AsyncGenerator[ModelEvent, None]:
        """Yield the events of one response and gather the rest in `turn`."""
        optional: dict[str, Any] = {"tools": body.tools} if body.tools else {}
        if body.tool_choice is not None:
            optional["tool_choice"] = body.tool_choice
        try:
            stream = await client.chat.completions.create(  # type: ignore[call-overload]
                model=self.name,
                messages=body.messages,
                stream=True,
                stream_options={"include_usage": True},
                **optional,
            )
            async with stream:
                _check_type(stream.response.headers.get("content-type", ""))
                async for chunk in stream:
                    if chunk.usage:
                        yield UsageReported(_so_far(turn, usage_of(chunk.usage)))
                    for choice in chunk.choices[:1]:
                        turn.finish = choice.finish_reason or turn.finish
                        for event in _delta(choice.delta, turn):
                            yield event
        except FAILURES as error:
            if not turn.finish:  # what breaks after the end takes nothing of the answer away
                raise model_error(error) from error
            logger.warning("the provider's stream broke after its end: %s", type(error).__name__)
        except ValueError as error:
            raise ModelError("The model provider sent something that is not JSON.", code="provider_error") from error
        if not turn.finish:
            # The connection was closed politely, but before the model had finished.
            raise ModelError("The model provider's answer broke off.", code="network")


def _so_far(turn: _Turn, report: Usage) -> Usage:
    """Return what the engine's call has used by now; a report is of one response, and the call may take two."""
    turn.usage, refused = turn.usage.updated(report)
    if turn.spent == Usage():
        return report  # as it came: the engine says what is no count
    if refused:
        logger.warning("the provider reported usage that is no count: %s", ", ".join(refused))
    return turn.spent + turn.usage


def _check_type(content_type: str) -> None:
    """Raise `ModelError` for an answer that is no stream, such as the page of a proxy that asks for a login."""
    if content_type.partition(";")[0].strip().lower() != "text/event-stream":
        raise ModelError(
            f"The model provider answered with {content_type[:60] or 'nothing one could read'}, not with a stream.",
            code="provider_error",
        )


def _delta(delta: Any, turn: _Turn) -> list[ModelEvent]:
    """Return the events of one chunk and add its tool-call fragments to the turn."""
    events: list[ModelEvent] = []
    extra = delta.model_extra or {}
    if reasoning := extra.get("reasoning_content") or extra.get("reasoning"):
        events.append(ReasoningDelta(str(reasoning)))
    turn.refused = turn.refused or bool(delta.refusal)
    if text := delta.content or delta.refusal:
        turn.text += text
        events.append(TextDelta(text))
    for fragment in delta.tool_calls or []:
        call = turn.calls.setdefault(fragment.index, _Fragments())
        call.call_id = fragment.id or call.call_id
        if fragment.function:
            call.name += fragment.function.name or ""
            call.arguments += fragment.function.arguments or ""
            if fragment.function.arguments and call.name == OUTPUT_TOOL and not turn.requests:
                events.append(OutputDelta(fragment.function.arguments))
    return events


def _ask_for_text(body: Body, turn: _Turn) -> Body:
    """Return the follow-up that asks for the reply alone, after the record was given."""
    record = turn.outputs[-1]
    made = {"name": OUTPUT_TOOL, "arguments": record.arguments}
    call = {"id": record.call_id, "type": "function", "function": made}
    said: list[dict[str, Any]] = [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": record.call_id, "content": "Recorded. Now write the reply to the customer."},
    ]
    return Body([*body.messages, *said], body.tools, "none")


def _value(arguments: str) -> Any:
    """Return the record as data, or as the text it came as, which the engine will refuse and have repaired."""
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments
