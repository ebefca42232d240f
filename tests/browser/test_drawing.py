"""What one more event costs a page: the entry that changed is drawn, and of a text what was added."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from agentcore import Agent
from agentcore.declaration import registry
from agentcore.models import Message, Thread
from agentcore.testing import ScriptedModel, Turn, run_until_idle
from supportdemo.cases.models import Case

from .conftest import TIMEOUT_MS, Desk

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
expect.set_options(timeout=TIMEOUT_MS)

TURNS = 200
# Which entries were touched since, and in what way.
WATCH = """
() => {
  window.touched = new Set();
  const entries = document.querySelector("[data-ac-entries]");
  new MutationObserver((records) => {
    for (const { target } of records) {
      const entry = target.closest ? target.closest("article") : target.parentElement?.closest("article");
      window.touched.add(entry ? entry.dataset.acRun ?? entry.dataset.acKey : "the list");
    }
  }).observe(entries, { subtree: true, childList: true, attributes: true, characterData: true });
}
"""
# How many characters are written into the page, by whatever way a script has.
COUNT = """
() => {
  window.written = 0;
  const count = (prototype, name) => {
    const { set } = Object.getOwnPropertyDescriptor(prototype, name);
    const counting = function (text) { window.written += String(text).length; set.call(this, text); };
    Object.defineProperty(prototype, name, { ...Object.getOwnPropertyDescriptor(prototype, name), set: counting });
  };
  const wrap = (prototype, name) => {
    const original = prototype[name];
    prototype[name] = function (...given) {
      for (const item of given) window.written += typeof item === "string" ? item.length : 0;
      return original.apply(this, given);
    };
  };
  count(Node.prototype, "textContent");
  count(CharacterData.prototype, "data");
  for (const name of ["append", "prepend", "replaceChildren"]) wrap(Element.prototype, name);
  for (const name of ["appendData", "insertData", "replaceData"]) wrap(CharacterData.prototype, name);
}
"""
STREAM = """
async ([pieces, piece]) => {
  const { GrowingText } = await import(new URL("text.js", document.querySelector("script[type=module]").src));
  const node = document.querySelector("[data-ac-entries]").appendChild(document.createElement("div"));
  node.className = "text";
  const growing = new GrowingText(node);
  let text = "";
  const most = { written: 0, laidOut: 0 };
  for (let number = 0; number < pieces; number += 1) {
    text += piece;
    const before = window.written;
    growing.set(text, true);
    most.written = Math.max(most.written, window.written - before);
    most.laidOut = Math.max(most.laidOut, node.lastChild.length);
  }
  growing.set(text, false);
  return { ...most, same: node.textContent === text, blocks: node.children.length, length: text.length };
}
"""


def thread_of(url: str) -> Thread:
    return Case.objects.select_related("thread__owner").get(pk=url.rstrip("/").rpartition("/")[2]).thread


@pytest.mark.covers("fc:F5")
def test_one_more_event_on_a_long_thread_draws_the_entry_that_changed(quiet_desk: Desk) -> None:
    ada = quiet_desk.person("ada")
    url = quiet_desk.open_case(ada, "Cups")

    def fill() -> None:
        thread = thread_of(url)
        with registry.isolated():
            agent = Agent(name="scripted", model=ScriptedModel([Turn(text="Yes.")]))
            run_until_idle(agent.runs.send(thread, "Question", user=thread.owner))
        said = list(Message.objects.filter(thread=thread).in_order().values("author_kind", "author_name", "content"))
        Message.objects.bulk_create(
            Message(thread=thread, order=order, step_order=step, created_at=thread.created_at, **what)
            for order in range(1, TURNS)
            for step, what in enumerate(said)
        )
        type(thread).objects.filter(pk=thread.pk).update(next_order=TURNS)

    quiet_desk.backstage(fill)
    quiet_desk.visit(ada, url)
    entries = ada.page.locator("[data-ac-entries] > article")
    for shown in range(50, 2 * TURNS, 50):
        expect(entries).to_have_count(shown)
        ada.page.locator("[data-ac-older]").click()
    expect(entries).to_have_count(2 * TURNS)
    ada.page.evaluate(WATCH)
    ada.page.evaluate(COUNT)

    def say() -> str:
        thread = thread_of(url)
        with registry.isolated():
            model = ScriptedModel([Turn(deltas=["One ", "more ", "answer."], delay=0.1)])
            run = Agent(name="scripted", model=model).runs.send(thread, "And now?", user=thread.owner)
            return str(run_until_idle(run).pk)

    run_id = quiet_desk.backstage(say)
    expect(ada.page.locator(f"[data-ac-run='{run_id}'] [data-ac-usage]")).to_be_visible()
    assert set(ada.page.evaluate("[...touched]")) == {"the list", run_id}
    assert ada.page.evaluate("written") < 2000
    assert ada.complaints == []


@pytest.mark.covers("fc:F5")
@pytest.mark.parametrize("piece", ["One more word. ", "Another line of it.\n"])
def test_a_long_answer_is_written_once_and_laid_out_in_pieces(quiet_desk: Desk, piece: str) -> None:
    ada = quiet_desk.person("ada")
    quiet_desk.open_case(ada, "Cups")
    ada.page.evaluate(COUNT)
    drawn = ada.page.evaluate(STREAM, [200_000 // len(piece), piece])
    assert drawn["same"]
    assert drawn["laidOut"] < 10_000 < drawn["length"]
    # A word is written, and now and then what makes a block is written once more.
    assert drawn["written"] < 10_000
    assert ada.page.evaluate("written") < 3.5 * drawn["length"]
    # A line without an end is put together again; full lines stay in their blocks.
    assert (drawn["blocks"] > 10) == piece.endswith("\n")
