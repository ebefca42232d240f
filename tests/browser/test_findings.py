"""What a model's provider ran, found and made is drawn, live and after a reload, and loads nothing by itself."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from playwright.sync_api import expect

from agentcore import Agent, Files
from agentcore.declaration import registry
from agentcore.models import Run
from agentcore.providers import (
    FileProduced,
    ModelEvent,
    ProviderCalled,
    ProviderReturned,
    SourceFound,
    StepFinished,
    TextDelta,
    TextEnded,
)
from agentcore.testing import run_until_idle
from supportdemo.files.store import store
from tests.integration.says import Says

from .conftest import TIMEOUT_MS, Desk
from .test_turns import assert_same_after_reload, thread_of

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]
expect.set_options(timeout=TIMEOUT_MS)

NUMBERS = count(1)
TIDES = "https://example.org/tides"


def answer(url: str, *events: ModelEvent, model: Any = None, files: Files | None = None) -> Callable[[], Run]:
    """Have an agent answer in the case with these events."""

    def act() -> Run:
        thread = thread_of(url)
        with registry.isolated():
            said = model or Says([*events, StepFinished("stop")])
            agent = Agent(name=f"finds{next(NUMBERS)}", model=said, files=files)
            return run_until_idle(agent.runs.send(thread, "When is high tide?", user=thread.owner))

    return act


def test_a_tool_that_the_provider_runs_is_a_quiet_line_that_says_how_it_stands(quiet_desk: Desk) -> None:
    ada = quiet_desk.person("ada")
    url = quiet_desk.open_case(ada, "Tides")
    goes_on = threading.Event()

    class Searches(Says):
        async def stream(self, request: Any) -> Any:
            yield ProviderCalled("ws_1", "web_search", {"query": "tides <b>today</b>"})
            yield TextDelta("Let me see. ")
            await asyncio.to_thread(goes_on.wait, TIMEOUT_MS / 1000)
            yield ProviderReturned("ws_1", "web_search", [{"url": TIDES}])
            yield ProviderCalled("ci_1", "make_a_tide_table", {"code": "1 + 1"})
            yield TextDelta("At noon.")
            yield StepFinished("stop")

    line = ada.page.locator("[data-ac-provider-call=web_search]")
    with ThreadPoolExecutor(1) as beside:
        played = beside.submit(quiet_desk.backstage, answer(url, model=Searches()))
        try:
            expect(line).to_have_attribute("data-ac-state", "running")
            expect(line).to_contain_text("Searches the web: tides <b>today</b> …")
        finally:
            goes_on.set()
        assert played.result().status == "succeeded"
    expect(line).to_have_attribute("data-ac-state", "done")
    expect(line).to_have_text("Searched the web: tides <b>today</b>")
    other = ada.page.locator("[data-ac-provider-call=make_a_tide_table]")
    expect(other).to_have_text("Runs make a tide table (no answer came)")
    assert_same_after_reload(quiet_desk, ada)
    assert ada.complaints == []


def test_sources_stand_once_with_what_is_quoted_of_them_and_only_the_web_is_linked(quiet_desk: Desk) -> None:
    ada = quiet_desk.person("ada")
    url = quiet_desk.open_case(ada, "Tides")
    found = [
        SourceFound("Tides", TIDES, quote="High tide is at noon.", start=0, end=8),
        SourceFound("Tides", TIDES, quote="Low tide is at six.", start=9, end=12),
        SourceFound("Tides", TIDES, quote="High tide is at noon."),
        SourceFound("Our handbook", document="article:1"),
        SourceFound("Click me", "javascript:alert(1)"),
    ]
    quiet_desk.backstage(answer(url, TextDelta("At noon."), TextEnded(), *found))
    sources = ada.page.locator("[data-ac-sources] > li")
    expect(sources).to_have_count(3)
    expect(sources.nth(0).locator("[data-ac-quote]")).to_have_text(["High tide is at noon.", "Low tide is at six."])
    expect(sources.nth(1)).to_have_text("Our handbook")
    expect(sources.nth(2)).to_have_text("Click me")
    links = ada.page.locator("[data-ac-sources] a")
    expect(links).to_have_count(1)
    expect(links).to_have_attribute("href", TIDES)
    expect(links).to_have_attribute("rel", "noopener noreferrer")
    assert_same_after_reload(quiet_desk, ada)
    assert ada.complaints == []


def test_files_that_a_model_made_are_links_and_nothing_is_loaded_from_elsewhere(quiet_desk: Desk) -> None:
    ada = quiet_desk.person("ada")
    url = quiet_desk.open_case(ada, "Tides")
    asked: list[str] = []
    ada.page.on("request", lambda request: asked.append(request.url))

    def kept(new: Any, about: Any) -> str:
        case = thread_of(url).case
        return str(store(case, case.customer, SimpleUploadedFile(new.filename, new.data)).pk)

    made = [
        FileProduced("image/png", url="https://example.org/map.png", filename="map.png"),
        FileProduced("text/plain", b"Noon.", filename="table.txt"),
    ]
    quiet_desk.backstage(answer(url, TextDelta("Here."), *made, files=Files(save=kept)))
    links = ada.page.locator("[data-ac-made-files] a")
    expect(links).to_have_text(["map.png", "table.txt"])
    expect(links.nth(0)).to_have_attribute("href", "https://example.org/map.png")
    with ada.page.expect_download() as download:
        links.nth(1).click()
    assert download.value.path().read_bytes() == b"Noon."
    assert not [address for address in asked if "example.org" in address]
    assert_same_after_reload(quiet_desk, ada)
    assert ada.complaints == []


def test_texts_of_an_answer_stand_as_paragraphs(quiet_desk: Desk) -> None:
    ada = quiet_desk.person("ada")
    url = quiet_desk.open_case(ada, "Tides")
    parts = [TextDelta("At "), TextDelta("noon."), TextEnded(), TextDelta("And at midnight.")]
    quiet_desk.backstage(answer(url, *parts))
    expect(ada.page.locator("[data-ac-answer] .text")).to_have_text("At noon.\n\nAnd at midnight.", use_inner_text=True)
    assert_same_after_reload(quiet_desk, ada)
