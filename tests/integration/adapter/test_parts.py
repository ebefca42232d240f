"""What is neither text nor a call: refusals, sources, what the provider runs itself, and files both ways."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from pydantic_ai.native_tools import WebSearchTool

from agentcore import FilePart, Files, TextPart
from agentcore.models import Run
from agentcore.providers import FileProduced, ProviderCalled, ProviderReturned, SourceFound, StepFinished
from tests.integration.adapter.scene import EVERY_WIRE, NAMES, chosen, events_of, model_at, room_at, said
from tests.integration.room import make
from tests.wires import WIRES, Citation, Finish, Image, Refusal, Search, Text, Wire

pytestmark = [pytest.mark.once, pytest.mark.django_db]
every_wire = pytest.mark.parametrize("wire", EVERY_WIRE, ids=NAMES)
drawing = pytest.mark.parametrize("wire", [WIRES["responses"], WIRES["gemini"]], ids=["responses", "gemini"])

# One pixel.
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@every_wire
def test_a_refusal_ends_the_run_with_its_words_kept(wire: Wire) -> None:
    with wire.serve(wire.answer(Refusal("I will not."), finish=Finish.REFUSED)) as server:
        run = room_at(wire, server).play()
    assert (run.status, run.finish_reason) in (("failed", "refusal"), ("failed", "content_filter"))
    assert run.error_code in ("refused", "content_filter")
    if wire.name != "gemini":  # it blocks the prompt
        assert [message.text for message in run.messages.filter(author_kind="agent")] == ["I will not."]
        assert run.error_code == "refused"


@every_wire
async def test_citations_are_sources_of_the_text_they_belong_to(wire: Wire) -> None:
    text = Text(("The tide ", "turns."), (Citation("https://example.org/tides", "Tides"),))
    searched = [Search("tides", text.citations)] if wire.name == "gemini" else []  # it cites what it has found
    with wire.serve(wire.answer(*searched, text)) as server:
        events = await events_of(model_at(wire, server))
    (source,) = chosen(events, SourceFound)
    assert (source.title, source.url) == ("Tides", "https://example.org/tides")
    assert said(events) == "The tide turns."


@pytest.mark.parametrize("wire", [WIRES["responses"], WIRES["anthropic"]], ids=["responses", "anthropic"])
def test_a_search_that_the_provider_ran_is_shown_and_sent_back(wire: Wire) -> None:
    answer = wire.answer(Search("tides"), Text(("The tide turns.",)))
    with wire.serve(answer, wire.says("Again.")) as server:
        room = make(model_at(wire, server, native_tools=[WebSearchTool()]))
        run, again = room.play("When?"), room.play("And then?")
        asked = json.dumps(server.requests[1].body)
    assert (run.status, again.status) == ("succeeded", "succeeded"), (run.error_detail, again.error_detail)
    kinds = [part.type for part in run.messages.get(author_kind="agent").parts]
    assert kinds[:2] == ["provider-call", "provider-result"]
    assert not run.tool_calls.exists()
    assert "web_search" in asked


@pytest.mark.parametrize("wire", [WIRES["responses"], WIRES["anthropic"]], ids=["responses", "anthropic"])
async def test_a_search_says_what_was_asked_and_what_was_found(wire: Wire) -> None:
    with wire.serve(wire.answer(Search("tides"), Text(("The tide turns.",)))) as server:
        events = await events_of(model_at(wire, server, native_tools=[WebSearchTool()]))
    (call,), (result,) = chosen(events, ProviderCalled), chosen(events, ProviderReturned)
    assert "tides" in json.dumps(call.arguments)
    assert call.call_id == result.call_id
    assert chosen(events, StepFinished)[-1].reason == "stop"


@drawing
async def test_a_picture_that_the_model_made_is_a_file(wire: Wire) -> None:
    with wire.serve(wire.answer(Image(PNG), Text(("Here.",)))) as server:
        events = await events_of(model_at(wire, server))
    (file,) = chosen(events, FileProduced)
    assert (file.media_type, file.data) == ("image/png", PNG)


@every_wire
def test_a_picture_is_sent_where_it_is_loaded_and_named_where_it_is_not(wire: Wire) -> None:
    parts = [
        TextPart("What is this?"),
        FilePart("f1", "dot.png", "image/png"),
        FilePart("f3", "gone.png", "image/png"),
    ]
    body = sent(wire, parts, {"f1": PNG})
    assert base64.b64encode(PNG).decode() in body.replace("-", "+").replace("_", "/")
    assert "[attached file: gone.png (image/png)]" in body


# Gemini's adapter reads an address itself, and sends the bytes.
@pytest.mark.parametrize("wire", [wire for wire in EVERY_WIRE if wire.name != "gemini"], ids=lambda wire: wire.name)
@pytest.mark.parametrize("loaded", [True, False], ids=["given by the loader", "of the message"])
def test_an_address_of_a_picture_is_sent_as_it_is(wire: Wire, loaded: bool) -> None:
    address = "https://files.example.org/away.png"
    part = FilePart("f2", "away.png", "image/png") if loaded else FilePart(url=address, media_type="image/png")
    assert address in sent(wire, [part], {"f2": address})


@every_wire
def test_a_file_that_the_model_cannot_read_is_named_instead(wire: Wire) -> None:
    body = sent(wire, [FilePart("f1", "all.zip", "application/zip")], {"f1": b"PK"})
    assert "all.zip" in body and "cannot read it" in body


@pytest.mark.parametrize(
    ("name", "kind"), [("chat", "application/pdf"), ("gemini", "application/pdf"), ("gemini", "image/png")]
)
def test_an_address_that_cannot_be_read_here_is_named_instead(name: str, kind: str) -> None:
    address = "http://127.0.0.1/away"
    part = FilePart(url=f"{address}?key=k", media_type=kind)
    body = sent(WIRES[name], [TextPart("Look."), part], {part.ref: part.url})
    assert f"[attached file: {address} ({kind}); its address cannot be read]" in body and "Look." in body


def sent(wire: Wire, parts: list[Any], files: dict[str, bytes | str]) -> str:
    """What the server was sent of a message with these files."""

    def load(part: FilePart, about: Any) -> bytes | str | None:
        return files.get(part.ref)

    with wire.serve(wire.says("I see.")) as server:
        room = room_at(wire, server, (), files=Files(load=load))
        run: Run = room.play(parts)  # type: ignore[arg-type]
        assert run.status == "succeeded", run.error_detail
        return json.dumps(server.requests[0].body)
