"""What a provider refuses, or cannot do, ends in one of our codes, before its stream and inside it."""

from __future__ import annotations

import pytest

from agentcore.exceptions import ModelError
from agentcore.providers import UsageReported
from agentcore.testing.faults.http_model import Reply
from tests.integration.adapter.scene import EVERY_WIRE, NAMES, chosen, events_of, model_at, request
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
