"""The adapter: one model of pydantic-ai, asked by the engine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing
from dataclasses import replace
from typing import Any

from pydantic_ai.models import Model, StreamedResponse
from pydantic_ai.native_tools import AbstractNativeTool

from ...declaration.model import ModelEvent, ModelRequest, OutputProduced, StepFinished, UsageReported
from ...exceptions import ModelError
from ...values.finish import FinishReason
from ...values.logextra import log_extra
from ...values.usage import Usage
from ..origins import origin
from .answer import Answer, value_of
from .clients import Line, models_in, separate
from .configured import made
from .details import of_part, of_response, plain
from .failures import BROKE_OFF, model_error_of
from .files import UNREADABLE, without_unreadable
from .live import in_a_task
from .request import Asked, asked
from .usage import count_cumulatively, usage_of

__all__ = ["PydanticAIModel"]

logger = logging.getLogger("agentcore.providers")

MOST_PAUSES = 10
AFTER_THE_END = 5.0
"""Seconds that a stream may stay open and silent after its provider has said that it ends."""
FAILED = "The model provider ended its answer because it failed."


class PydanticAIModel:
    """A model of pydantic-ai, without its agent loop: `PydanticAIModel(OpenAIChatModel("gpt-5", provider=…))`.

    `settings` are settings of the model in pydantic-ai's words; those of the agent and of the run overrule them.
    `native_tools` are tools that its provider runs itself, such as `WebSearchTool()`.
    Time limits are the engine's. Tries are the engine's too, so the SDK makes none unless `max_retries` is set.
    """

    def __init__(
        self,
        model: Model | str,
        *,
        settings: Mapping[str, Any] | None = None,
        native_tools: Sequence[AbstractNativeTool] = (),
    ) -> None:
        """Take a model, or the name of one; raises `ModelNotConfigured` where that cannot be made here."""
        if isinstance(model, str):
            model = made(model)
        separate(model)
        self._model = model
        self._settings = dict(settings or {})
        self._native_tools = list(native_tools)

    def __repr__(self) -> str:
        return f"PydanticAIModel({self.name!r}, provider={self.provider!r})"

    @property
    def name(self) -> str:
        """What the provider calls it."""
        return self._model.model_name

    @property
    def provider(self) -> str:
        """Whose it is, by pydantic-ai's name."""
        return self._model.system

    @property
    def origin(self) -> str:
        """The provider, its address and the account: what provider details go back to.

        The class of the model counts too: OpenAI's two interfaces do not read each other's.
        """
        addresses = [f"{type(one).__name__} {_address(one)}" for one in models_in(self._model)]
        return origin(self.provider, "\n".join(addresses), "\n".join(self._keys()))

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent]:
        """Yield one model call's events; raises `ModelError` for what the provider or the network refuses."""
        on = Line()
        call = _Call(self._model, asked(request, self._model, self._settings, self._native_tools), request)
        try:
            async with aclosing(in_a_task(call.said(), on, request)) as events:
                async for event in events:
                    # What came and said nothing yet shows all the same that the call lives.
                    yield event if event is not None else UsageReported(call.usage)
        except Exception as error:
            yield UsageReported(call.usage)
            failure = model_error_of(error, keys=self._keys(), on=on)
            if failure is None:
                raise
            raise failure from None

    def _keys(self) -> list[str]:
        return [key for one in models_in(self._model) for key in _keys_of(one)]


class _Call:
    """One call of the engine's: as a rule one request, more where an answer was paused or a reply is owed."""

    def __init__(self, model: Model, first: Asked, request: ModelRequest) -> None:
        self._model = model
        self._first = first
        self._request = request
        self._answers: list[Answer] = []

    @property
    def usage(self) -> Usage:
        """What all its responses have used so far."""
        return sum((usage_of(answer.stream.usage) for answer in self._answers), Usage())

    async def said(self) -> AsyncGenerator[ModelEvent]:
        """Yield all that comes of the call."""
        request = self._first
        async for event in self._respond(request):
            yield event
        pauses = before = 0
        while (answer := self._answers[-1]).response.state == "suspended":
            pauses, before = pauses + 1, before + answer.kept
            if pauses > MOST_PAUSES:
                raise ModelError(f"The model provider has paused its answer more than {MOST_PAUSES} times.")
            request = request.going_on(answer.response)
            async for event in self._respond(request):
                yield event
        details = self._details(answer)
        if answer.outputs and not answer.calls:
            record = answer.outputs[-1]
            details["output"] = {"call": self._record(answer), "after": answer.thought_of_record}
            if request.wants_reply and not answer.says_something and answer.reason == FinishReason.STOP:
                # Many models write nothing beside a call; whoever asked is owed a reply.
                details["output"] |= {"response": self._details(answer), "parts": before + answer.kept}
                async for event in self._respond(request.for_reply(answer.response)):
                    yield event
                details = {**self._details(self._answers[-1]), "output": details["output"]}
            yield OutputProduced(value_of(record.args))
        yield StepFinished(self._answers[-1].reason, details or None)

    async def _respond(self, request: Asked) -> AsyncGenerator[ModelEvent]:
        """Yield what one response says; raises what breaks it before its provider has said that it ends."""
        async with AsyncExitStack() as stack:
            stream = await self._open(request, stack)
            count_cumulatively(stream)
            answer = Answer(stream, request)
            self._answers.append(answer)
            reported, events = self.usage, aiter(stream)
            try:
                while (event := await _next(events, answer)) is not None:
                    for said in answer.take(event):
                        yield said
                    if self.usage != reported:
                        reported = self.usage
                        yield UsageReported(reported)
            except Exception as error:
                if not answer.ended:
                    raise
                extra = log_extra("stream_broke_late", self._request.run_id, self._request.attempt)
                logger.warning("the provider's stream broke after its end: %s", type(error).__name__, extra=extra)
            if answer.has_failed:
                raise ModelError(FAILED)
            if not answer.ended:
                raise ModelError(BROKE_OFF, code="network")
            for said in answer.close():
                yield said
            yield UsageReported(self.usage)

    async def _open(self, request: Asked, stack: AsyncExitStack) -> StreamedResponse:
        """Return the stream of a response; asked again without the files that keep the request from being sent."""
        try:
            return await stack.enter_async_context(self._ask(request))
        except UNREADABLE:
            readable = await without_unreadable(request.messages)
            if readable == request.messages:
                raise
            return await stack.enter_async_context(self._ask(replace(request, messages=readable)))

    def _ask(self, request: Asked) -> AbstractAsyncContextManager[StreamedResponse]:
        messages = self._model.prepare_messages(request.messages, request.parameters)
        return self._model.request_stream(messages, request.settings, request.parameters, None)

    def _details(self, answer: Answer) -> dict[str, Any]:
        found = of_response(answer.response)
        if not (answer.comes_back or answer.outputs or "provider_details" in found):
            return {}
        return {**found, "signatures": answer.signatures} if answer.signatures else found

    def _record(self, answer: Answer) -> dict[str, Any]:
        call = answer.outputs[-1]
        arguments = call.args_as_dict()
        return {
            "name": call.tool_name,
            "call_id": call.tool_call_id,
            "arguments": plain(arguments),
            **(of_part(call) or {}),
        }


async def _next(events: AsyncIterator[Any], answer: Answer) -> Any:
    """Return the next event, None after the last; a server that has ended its answer may not keep it open for long.

    What ends an answer may be no event of pydantic-ai's: so it is looked at while the next one is waited for.
    """
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle | None = None
    async with asyncio.timeout(None) as limit:

        def look() -> None:
            nonlocal timer
            if answer.ended:
                limit.reschedule(loop.time())
            else:
                timer = loop.call_later(AFTER_THE_END, look)

        timer = loop.call_later(AFTER_THE_END, look)
        try:
            return await anext(events, None)
        finally:
            if timer is not None:
                timer.cancel()


def _address(model: Model) -> str:
    """Return where a model is asked: what its client says counts more than what its provider is known for."""
    provider = model.provider
    if provider is None:
        return ""
    return str(getattr(provider.client, "base_url", "") or provider.base_url)


def _keys_of(model: Model) -> list[str]:
    """Return the keys that a model is asked with, wherever its client keeps them."""
    client = getattr(model.provider, "client", None)
    inner = getattr(client, "_api_client", None)
    places = ((client, "api_key"), (client, "auth_token"), (inner, "api_key"))
    found = [getattr(place, name, None) for place, name in places]
    return [key for key in found if isinstance(key, str) and key]
