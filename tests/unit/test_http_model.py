"""The scripted HTTP model sends what the script says, and remembers what it was asked."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from agentcore.testing.faults.http_model import (
    FunctionCall,
    HttpModel,
    Pause,
    Reply,
    Seen,
    answers,
    asks,
    redirects,
    refuses,
    says,
)
from agentcore.testing.faults.wire import chunk, sse

pytestmark = pytest.mark.once


def request(text: str = "Hello", *results: str) -> dict[str, Any]:
    told = [{"role": "tool", "tool_call_id": "c", "content": result} for result in results]
    return {"model": "test-1", "messages": [{"role": "user", "content": text}, *told]}


def post(model: HttpModel, *args: str) -> httpx.Response:
    return httpx.post(f"{model.url}/chat/completions", json=request(*args), timeout=10)


def chunks(response: httpx.Response) -> Iterator[dict[str, Any]]:
    for line in response.text.splitlines():
        if line.startswith("data: {"):
            yield json.loads(line.removeprefix("data: "))


def deltas(response: httpx.Response) -> list[dict[str, Any]]:
    return [chunk["choices"][0]["delta"] for chunk in chunks(response) if chunk["choices"]]


def test_it_says_its_text_piece_by_piece_and_why_it_stopped() -> None:
    with HttpModel(says("Good ", "day.")) as model:
        response = post(model)
    assert response.headers["content-type"] == "text/event-stream"
    assert [delta.get("content") for delta in deltas(response)] == ["Good ", "day.", None]
    assert [item["choices"][0]["finish_reason"] for item in chunks(response) if item["choices"]][-1] == "stop"
    assert [item["usage"]["total_tokens"] for item in chunks(response) if "usage" in item] == [15]
    assert response.text.endswith("data: [DONE]\n\n")


def test_it_asks_for_calls_with_any_arguments() -> None:
    with HttpModel(asks(FunctionCall("look", {"n": 1}), FunctionCall("look", '{"n": ', "call_2"), text="Hm.")) as model:
        response = post(model)
    pieces: dict[int, str] = {}
    for delta in deltas(response):
        for call in delta.get("tool_calls", ()):
            pieces[call["index"]] = pieces.get(call["index"], "") + call["function"]["arguments"]
    assert pieces == {0: '{"n": 1}', 1: '{"n": '}


def test_replies_come_in_order_and_one_too_many_is_refused() -> None:
    with HttpModel(says("one"), refuses(429, "Slow down", headers={"Retry-After": "7"})) as model:
        first, second, third = post(model), post(model), post(model)
    assert first.status_code == 200
    assert (second.status_code, second.headers["retry-after"]) == (429, "7")
    assert second.json()["error"]["message"] == "Slow down"
    assert (third.status_code, model.unexpected, len(model.requests)) == (400, 1, 3)


def test_a_script_decides_by_what_it_is_asked() -> None:
    def script(seen: Seen) -> Reply:
        return says(f"{seen.prompt}: {len(seen.results)} results")

    with HttpModel(script=script) as model:
        assert "Go: 0 results" in post(model, "Go").text
        assert "Go: 2 results" in post(model, "Go", "a", "b").text


def test_a_check_answers_first_and_takes_no_reply() -> None:
    def check(seen: Seen) -> Reply | None:
        return refuses(422, "Say something.") if not seen.prompt else None

    with HttpModel(says("Good day."), check=check) as model:
        refused, answered = post(model, ""), post(model)
    assert (refused.status_code, answered.status_code, len(model.requests)) == (422, 200, 2)
    assert (model.unexpected, model.url) == (0, f"{model.address}/v1")


@pytest.mark.parametrize("size", [0, 1, 40])
def test_a_reply_can_be_cut_after_any_byte(size: int) -> None:
    whole = sse(chunk({"content": "Grüße"}))
    with HttpModel(Reply([whole]).cut(size)) as model:
        got = b""
        with (
            pytest.raises(httpx.RemoteProtocolError),
            httpx.stream("POST", f"{model.url}/chat/completions", json=request()) as response,
        ):
            for piece in response.iter_raw():
                got += piece
    assert got == whole[:size]


def test_a_stall_lasts_as_long_as_the_client_stays() -> None:
    with HttpModel(Reply([sse(chunk({"content": "a"})), Pause()])) as model:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{model.url}/chat/completions", json=request(), timeout=0.3)
        assert model.hung_up.wait(10)


def test_a_stalled_server_can_be_closed() -> None:
    begun = time.monotonic()
    with HttpModel(Reply([Pause()])) as model, pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{model.url}/chat/completions", json=request(), timeout=0.3)
    assert time.monotonic() - begun < 30


def test_text_comes_with_its_pauses() -> None:
    with HttpModel(says("a", "b", delay=0.1)) as model:
        begun = time.monotonic()
        assert post(model).status_code == 200
        assert time.monotonic() - begun >= 0.2


def test_it_redirects_and_answers_with_anything() -> None:
    with HttpModel(redirects("http://127.0.0.1:9/v1"), answers(b"<html>", "text/html")) as model:
        moved, page = post(model), post(model)
    assert (moved.status_code, moved.headers["location"]) == (307, "http://127.0.0.1:9/v1")
    assert (page.headers["content-type"], page.content) == ("text/html", b"<html>")
