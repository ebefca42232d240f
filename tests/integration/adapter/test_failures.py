"""What a provider refuses, or cannot do, ends in one of our codes, before its stream and inside it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from anthropic import AsyncAnthropic
from pydantic import TypeAdapter, ValidationError
from pydantic_ai.exceptions import UnexpectedModelBehavior
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.providers.anthropic import AnthropicProvider

from agentcore.exceptions import ModelError
from agentcore.providers import UsageReported
from agentcore.providers.pydantic_ai import PydanticAIModel
from agentcore.providers.pydantic_ai.failures import model_error_of
from agentcore.testing.faults.http_model import Reply
from tests.integration.adapter.scene import EVERY_WIRE, NAMES, chosen, events_of, model_at, request, room_at
from tests.wires import WIRES, Fault, Wire, replies

pytestmark = pytest.mark.once
every_wire = pytest.mark.parametrize("wire", EVERY_WIRE, ids=NAMES)

CODES = {
    Fault.KEY: "auth",
    Fault.CREDITS: "credits",
    Fault.FORBIDDEN: "auth",
    Fault.MODEL: "invalid_request",
    Fault.LARGE: "context_overflow",
    Fault.RATE: "rate_limited",
    Fault.QUOTA: "credits",
    Fault.SERVER: "provider_error",
    Fault.UNAVAILABLE: "overloaded",
    Fault.OVERLOADED: "overloaded",
    Fault.CONTEXT: "context_overflow",
    Fault.INVALID: "invalid_request",
}
BY_WIRE = {
    ("openrouter", Fault.QUOTA): "auth",  # it has the status of a key that may not
    ("openrouter", Fault.UNAVAILABLE): "provider_error",
    ("gemini", Fault.LARGE): "invalid_request",
}
INSIDE = {
    # Without a status these are not told from a request that is invalid, or from any failure.
    ("chat", Fault.CREDITS): "invalid_request",
    ("responses", Fault.CREDITS): "invalid_request",
    ("chat", Fault.LARGE): "invalid_request",
    ("responses", Fault.LARGE): "invalid_request",
    ("anthropic", Fault.UNAVAILABLE): "provider_error",
}


async def failure(wire: Wire, *answers: Reply) -> ModelError:
    with wire.serve(*answers) as server:
        with pytest.raises(ModelError) as raised:
            await events_of(model_at(wire, server))
        assert len(server.requests) == 1
    assert wire.key not in str(raised.value) + repr(raised.value) + raised.value.detail
    return raised.value


@every_wire
@pytest.mark.parametrize("fault", Fault)
async def test_an_error_before_the_stream_has_the_code_of_its_kind(wire: Wire, fault: Fault) -> None:
    error = await failure(wire, wire.fails(fault))
    assert error.run_code == BY_WIRE.get((wire.name, fault), CODES[fault]), str(error)


@every_wire
@pytest.mark.parametrize("fault", Fault)
async def test_an_error_inside_the_stream_has_the_code_of_its_kind(wire: Wire, fault: Fault) -> None:
    error = await failure(wire, replies.broken(wire.says("Good ", "day."), 2, wire.breaks(fault)))
    assert error.run_code == {**BY_WIRE, **INSIDE}.get((wire.name, fault), CODES[fault]), str(error)


@every_wire
async def test_a_rate_limit_says_how_long_to_wait(wire: Wire) -> None:
    error = await failure(wire, wire.fails(Fault.RATE, wait=7))
    assert (error.run_code, error.retry_after, error.retryable) == ("rate_limited", 7, True)


@every_wire
async def test_an_unknown_model_is_named_to_the_operator(wire: Wire) -> None:
    with wire.serve(wire.fails(Fault.MODEL)) as server:
        with pytest.raises(ModelError) as raised:
            await events_of(model_at(wire, server, "vendor/no-such-model-1"))
    assert "no-such-model-1" in raised.value.detail
    assert "no-such-model-1" not in raised.value.shown


@every_wire
async def test_a_page_instead_of_a_stream_says_to_check_the_base_url(wire: Wire) -> None:
    error = await failure(wire, replies.html())
    assert error.run_code == "provider_error"
    assert "text/html" in error.detail and "base URL" in error.detail


@every_wire
async def test_an_error_body_of_a_successful_answer_is_shown_to_the_operator(wire: Wire) -> None:
    error = await failure(wire, wire.refuses(200, {"error": {"message": "No credits here."}}))
    assert "No credits here." in error.detail


@every_wire
async def test_an_answer_that_is_no_stream_is_not_quoted(wire: Wire) -> None:
    error = await failure(
        wire, wire.refuses(200, {"choices": [{"message": {"content": "The secret."}}], "error": None})
    )
    assert "secret" not in error.detail


def test_an_answer_that_does_not_fit_its_schema_is_not_quoted() -> None:
    with pytest.raises(ValidationError) as raised:
        TypeAdapter(dict[str, int]).validate_python({"place": "The secret."})
    wrapped = UnexpectedModelBehavior(f"Invalid response: {raised.value}", body="The secret.")
    wrapped.__cause__ = raised.value
    for error in (raised.value, wrapped):
        failed = model_error_of(error)
        assert failed is not None
        assert "place: Input should be a valid integer" in failed.detail and "secret" not in failed.detail


def test_a_body_that_cannot_be_read_is_not_quoted() -> None:
    failed = model_error_of(UnexpectedModelBehavior("It ended without content.", body="The secret."))
    assert failed is not None
    assert "It ended without content." in failed.detail and "secret" not in failed.detail


@pytest.mark.django_db
def test_what_a_provider_said_of_its_failure_is_kept_and_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    wire = WIRES["chat"]
    with wire.serve(wire.refuses(401, {"error": {"message": "Said to the operator."}})) as server:
        run = room_at(wire, server).play()
    assert "Said to the operator." in run.error_detail
    (logged,) = [record for record in caplog.records if getattr(record, "action", "") == "model_failed"]
    assert "Said to the operator." not in str(vars(logged))


@every_wire
async def test_an_error_inside_a_stream_of_another_media_type_has_the_code_of_its_kind(wire: Wire) -> None:
    broken = replies.broken(wire.says("Good ", "day."), 2, wire.breaks(Fault.OVERLOADED))
    error = await failure(wire, replace(broken, headers={"Content-Type": "text/plain"}))
    assert error.run_code == "overloaded", str(error)


@pytest.mark.parametrize("key", ["", "none", "sk-1234"])
def test_a_key_that_is_a_word_leaves_the_sentence_as_it_is(key: str) -> None:
    failed = model_error_of(UnexpectedModelBehavior("There is none: sk-1234567."), keys=[key, "sk-1234567"])
    assert failed is not None
    assert failed.detail.endswith("There is none: [hidden].")


def test_the_token_of_a_client_is_a_key_too() -> None:
    client = AsyncAnthropic(auth_token="token-of-a-test")
    model = PydanticAIModel(AnthropicModel("claude", provider=AnthropicProvider(anthropic_client=client)))
    other = AsyncAnthropic(auth_token="token-of-another")
    another = PydanticAIModel(AnthropicModel("claude", provider=AnthropicProvider(anthropic_client=other)))
    assert "token-of-a-test" in model._keys()
    assert model.origin != another.origin


@every_wire
async def test_a_redirect_is_not_followed_and_says_so(wire: Wire) -> None:
    with wire.serve(wire.says("Never read.")) as elsewhere:
        away = wire.refuses(307, {}, {"Location": f"{elsewhere.address}/elsewhere"})
        error = await failure(wire, away)
        assert not elsewhere.requests
    assert error.run_code == "invalid_request"


@every_wire
async def test_a_server_that_is_away_is_a_network_failure(wire: Wire) -> None:
    with wire.serve() as server:
        model = model_at(wire, server)
    with pytest.raises(ModelError) as raised:
        await events_of(model)
    assert (raised.value.run_code, raised.value.retryable) == ("network", True)


@pytest.mark.parametrize("wire", [WIRES["anthropic"], WIRES["gemini"]], ids=["anthropic", "gemini"])
async def test_what_was_used_before_a_stream_broke_is_reported(wire: Wire) -> None:
    with wire.serve(replies.broken(wire.says("Good ", "day."), 2, wire.breaks(Fault.SERVER))) as server:
        model, events = model_at(wire, server), []
        with pytest.raises(ModelError):
            async for event in model.stream(request()):
                events.append(event)
    assert chosen(events, UsageReported)[-1].usage.input_tokens == 10
