"""Every turn shows how its run stands, and a reload shows the same."""

from __future__ import annotations

from itertools import count
from time import monotonic
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from agentcore import SYSTEM, Agent, tool
from agentcore.conf import get_settings
from agentcore.declaration import registry
from agentcore.exceptions import ModelError
from agentcore.models import Run, Thread
from agentcore.services import approvals, runs, sending
from agentcore.services.sweep import sweep
from agentcore.testing import ScriptedModel, Turn, run_until_idle
from supportdemo.cases.models import Case
from tests.integration.doomed import DiesMidText
from tests.integration.room import die_driving, only_approval

from .conftest import TIMEOUT_MS, Desk

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]
expect.set_options(timeout=TIMEOUT_MS)

NUMBERS = count(1)
DOWN = ModelError("The model's provider refused the request.", code="invalid_request", retryable=False)
# The whole conversation as it is drawn; a message has two names, and what a page did not see has no step numbers.
DRAWN = """
() => document.querySelector("[data-ac-entries]").innerHTML.replace(/ data-ac-(key|step)="[^"]*"/g, "").split(/(?=<)/)
"""

ENDS = """
(runs) => runs.map((run) => [run.dataset.acRunStatus, run.querySelector("[data-ac-end]")?.dataset.acEnd ?? ""])
"""


@tool(needs_approval=True)
def pay(cents: int) -> str:
    """Pay."""
    raise ConnectionError("nobody knows")


def agent(*turns: Turn, model: Any = None, on_busy: Any = "parallel") -> Agent:
    """An agent that plays a script once, under a name that no other has."""
    return Agent(name=f"scripted{next(NUMBERS)}", model=model or ScriptedModel(turns), tools=[pay], on_busy=on_busy)


def play(thread: Thread, *turns: Turn) -> Run:
    return run_until_idle(agent(*turns).runs.send(thread, f"Message {len(turns)}", user=thread.owner))


def ends(page: Page) -> list[tuple[str, str]]:
    """Each run's status, and the code of its end, in the order in which they stand."""
    return [(status, code) for status, code in page.eval_on_selector_all("[data-ac-run]", ENDS)]


def thread_of(url: str) -> Thread:
    return Case.objects.select_related("thread__owner").get(pk=url.rstrip("/").rpartition("/")[2]).thread


def assert_same_after_reload(desk: Desk, person: Any) -> None:
    """The page shows the same once it follows again: what a run that goes on has said stands in its log only."""
    before = person.page.evaluate(DRAWN)
    badge = person.page.locator("[data-ac-case-status]").inner_text()
    person.page.reload()
    desk.wait_until_ready(person)
    expect(person.page.locator("[data-ac-case-status]")).to_have_text(badge)
    deadline = monotonic() + TIMEOUT_MS / 1000
    while person.page.evaluate(DRAWN) != before and monotonic() < deadline:
        person.page.wait_for_timeout(50)
    assert person.page.evaluate(DRAWN) == before


@pytest.mark.covers("fc:B10", "fc:F4")
def test_every_end_is_told_and_told_again_after_a_reload(quiet_desk: Desk) -> None:
    ada = quiet_desk.person("ada")
    url = quiet_desk.open_case(ada, "Cups")

    def act() -> None:
        thread = thread_of(url)
        with registry.isolated():
            play(thread, Turn(text="Here it is."))
            play(thread, Turn(deltas=["Half ", "an ans"], error=DOWN))
            runs.cancel(agent().runs.send(thread, "Never mind", user=thread.owner), user=SYSTEM)
            play(thread, Turn(text="A very long ans", finish="length"))
            play(thread, Turn(text="Some", finish="content_filter"))
            play(thread, Turn(text="I will not.", finish="refusal"))
            failing = agent(Turn(error=DOWN), Turn(error=DOWN))
            silent = run_until_idle(failing.runs.send(thread, "Say something", user=thread.owner))
            run_until_idle(sending.retry(silent, user=thread.owner))

    quiet_desk.backstage(act)
    told = [
        ("succeeded", ""),
        ("failed", "invalid_request"),
        ("canceled", "canceled"),
        ("succeeded", "length"),
        ("failed", "content_filter"),
        ("failed", "refused"),
        ("failed", "invalid_request"),
        ("failed", "invalid_request"),
    ]
    expect(ada.page.locator("[data-ac-run-status=failed]")).to_have_count(5)
    assert ends(ada.page) == told
    expect(ada.page.locator("[data-ac-case-status]")).to_have_text("failed")
    # The last turn was tried again: its first run says so, and only the newest can be tried once more.
    first, last = ada.page.locator("[data-ac-run]").nth(6), ada.page.locator("[data-ac-run]").nth(7)
    expect(first).to_contain_text("It was tried again below.")
    expect(first.locator("[data-ac-retry-run]")).to_have_count(0)
    expect(last.locator("[data-ac-retry-run]")).to_be_visible()
    expect(ada.page.locator("[data-ac-end=length]")).to_contain_text("was cut off here")
    expect(ada.page.locator("[data-ac-end=refused]")).to_contain_text("Ask in another way")
    expect(ada.page.locator("[data-ac-end=canceled]")).to_contain_text("Stopped before there was an answer.")
    assert_same_after_reload(quiet_desk, ada)
    assert ends(ada.page) == told
    asked: list[str] = []
    ada.page.on("request", lambda request: "/events" in request.url and asked.append(request.url))
    ada.page.locator("[data-ac-activity] > summary").click()
    expect(ada.page.locator("[data-ac-event=done]")).to_have_count(1)
    assert len(asked) == 1, "the events of runs that nobody opened were read"
    olga = quiet_desk.person("olga")
    quiet_desk.visit(olga, url)
    expect(olga.page.locator("[data-ac-retry-run]")).to_have_count(ada.page.locator("[data-ac-retry-run]").count())
    olga.page.locator("[data-ac-retry-run]").last.click()
    expect(olga.page.locator("[data-ac-readonly-note]")).to_contain_text("Not tried again.")
    last.locator("[data-ac-retry-run]").click()
    expect(ada.page.locator("[data-ac-compose-note]")).to_contain_text("Not tried again.")  # no such agent here
    ada.page.locator("[data-ac-go-on]").click()
    expect(ada.page.get_by_label("Message")).to_have_value("Please go on where you stopped.")


@pytest.mark.covers("fc:B10")
def test_what_waits_says_for_whom_and_does_so_after_a_reload(quiet_desk: Desk) -> None:
    ada, olga = quiet_desk.person("ada"), quiet_desk.person("olga")
    url = quiet_desk.open_case(ada, "Cups")
    quiet_desk.visit(olga, url)

    poison_after = get_settings().poison_after

    def act() -> None:
        thread = thread_of(url)
        with registry.isolated():
            play(thread, Turn(text="Shall I pay?", calls=[("pay", {"cents": 5})]))
            doubtful = play(thread, Turn(text="I pay.", calls=[("pay", {"cents": 7})]))
            asked = only_approval(doubtful)
            approvals.approve(asked, user=SYSTEM, digest=asked.digest)
            run_until_idle(doubtful)
            deadly = agent(model=DiesMidText(deaths=poison_after)).runs.send(thread, "Poison", user=thread.owner)
            for _ in range(poison_after):
                die_driving(deadly)
            sweep()
            agent(on_busy="queue").runs.send(thread, "First in the queue", user=thread.owner)
            agent(on_busy="queue").runs.send(thread, "Second in the queue", user=thread.owner)

    quiet_desk.backstage(act)
    for person in (ada, olga):
        expect(person.page.locator("[data-ac-run]")).to_have_count(5)
        expect(person.page.locator("[data-ac-end=effect_unverified]")).to_be_visible()
        expect(person.page.locator("[data-ac-end=poisoned]")).to_be_visible()
        expect(person.page.locator("[data-ac-approval-status=pending]")).to_be_visible()
    assert_same_after_reload(quiet_desk, ada)
    assert_same_after_reload(quiet_desk, olga)
