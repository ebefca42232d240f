"""Each provider's errors, before a stream and inside one, are to the published clients what they say they are."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic_ai import exceptions as heard

from agentcore.testing.faults.http_model import Reply, answers, redirects
from tests.unit.published import hear, published
from tests.wires import WIRES, Fault, FunctionCall, Text, Wire
from tests.wires.replies import body, broken, cuts, html, seams, silence, stays, waits
from tests.wires.responses import RESPONSES

pytestmark = [pytest.mark.once, pytest.mark.longer]

KINDS: dict[Fault, type[heard.ModelAPIError]] = {
    Fault.KEY: heard.ModelAuthenticationError,
    Fault.CREDITS: heard.ModelQuotaExceededError,
    Fault.FORBIDDEN: heard.ModelAuthenticationError,
    Fault.MODEL: heard.ModelNotFoundError,
    Fault.LARGE: heard.ModelHTTPError,
    Fault.RATE: heard.ModelRateLimitError,
    Fault.QUOTA: heard.ModelQuotaExceededError,
    Fault.SERVER: heard.ModelServerError,
    Fault.UNAVAILABLE: heard.ModelUnavailableError,
    Fault.OVERLOADED: heard.ModelOverloadedError,
    Fault.CONTEXT: heard.ModelContextWindowExceededError,
    Fault.INVALID: heard.ModelRequestRejectedError,
}
OTHER = {
    ("openrouter", Fault.MODEL): heard.ModelRequestRejectedError,  # a 400
    ("openrouter", Fault.QUOTA): heard.ModelAuthenticationError,  # a 403
    ("openrouter", Fault.UNAVAILABLE): heard.ModelServerError,  # a 502
}
SPOKEN = [Fault.RATE, Fault.QUOTA, Fault.SERVER, Fault.OVERLOADED, Fault.CONTEXT]
"""What happens to a provider after it has begun to answer."""


@pytest.fixture(params=WIRES)
def wire(request: pytest.FixtureRequest) -> Wire:
    return WIRES[request.param]


async def fall(wire: Wire, *replies: Reply, **settings: Any) -> heard.AgentRunError:
    """Return what the published client raises at each of the replies, which must be of one kind; each is asked once."""
    raised: list[heard.AgentRunError] = []
    with wire.serve(*replies) as server:
        async with published(wire, server) as model:
            for _ in replies:
                with pytest.raises(heard.AgentRunError) as caught:
                    await hear(model, **settings)
                raised.append(caught.value)
    assert len(server.requests) == len(replies)
    assert len({type(error) for error in raised}) == 1
    return raised[0]


@pytest.mark.parametrize("fault", Fault)
async def test_a_fault_before_the_stream_is_of_its_kind(wire: Wire, fault: Fault) -> None:
    error = await fall(wire, wire.fails(fault))
    assert isinstance(error, OTHER.get((wire.name, fault), KINDS[fault]))
    assert isinstance(error, heard.ModelHTTPError) and not error.in_stream


async def test_a_provider_asks_to_wait_in_its_own_way(wire: Wire) -> None:
    error = await fall(wire, wire.fails(Fault.RATE, wait=7))
    assert isinstance(error, heard.ModelRateLimitError) and error.retry_after == 7


@pytest.mark.parametrize("fault", SPOKEN)
async def test_a_fault_inside_the_stream_is_of_its_kind(wire: Wire, fault: Fault) -> None:
    error = await fall(wire, broken(wire.says("Good ", "day."), 3, wire.breaks(fault)))
    assert isinstance(error, OTHER.get((wire.name, fault), KINDS[fault]))
    assert error.in_stream


@pytest.mark.parametrize("fault", [Fault.RATE, Fault.QUOTA, Fault.OVERLOADED, Fault.CONTEXT])
async def test_responses_have_three_ways_to_break(fault: Fault) -> None:
    frames = [RESPONSES.breaks(fault), RESPONSES.breaks_flat(fault), RESPONSES.breaks_as_failed(fault)]
    error = await fall(RESPONSES, *(broken(RESPONSES.says("Good"), 3, frame) for frame in frames))
    assert isinstance(error, KINDS[fault])


async def test_what_is_no_models_answer_is_no_answer(wire: Wire) -> None:
    error_page = answers(body(wire.fails(Fault.SERVER)), "application/json")
    for reply in (html(), error_page, redirects("http://127.0.0.1:9/v1"), silence()):
        await fall(wire, reply)


async def test_the_page_of_a_proxy_is_known_by_its_status(wire: Wire) -> None:
    assert isinstance(await fall(wire, html(404)), heard.ModelNotFoundError)
    assert isinstance(await fall(wire, html(503)), heard.ModelUnavailableError)


async def test_an_answer_cut_at_any_frame_is_a_broken_connection(wire: Wire) -> None:
    whole = wire.thinks("Hmm", "s1", Text(("Good ", "day.")), FunctionCall("look", {"n": 1}))
    error = await fall(wire, *cuts(whole), whole.cut(seams(whole)[2] + 9))
    assert isinstance(error, heard.ModelConnectionError) and error.phase == "read"


async def test_a_server_that_falls_silent_is_given_up_and_sees_it(wire: Wire) -> None:
    for after in (0, 3):
        assert isinstance(
            await fall(wire, stays(wire.says("a", "b", "c", "d"), after), timeout=0.3), heard.ModelTimeoutError
        )


@pytest.mark.parametrize("wire", [wire for wire in WIRES.values() if wire.ping], ids=lambda wire: wire.name)
async def test_pings_keep_a_connection_alive(wire: Wire) -> None:
    with wire.serve(waits(wire.says("Good day."), wire.ping, 4, 0.25, after=1)) as server:
        async with published(wire, server) as model:
            assert (await hear(model, timeout=0.9)).text == "Good day."
