"""The demo's case page in a real browser, on the real path through worker, Redis and websocket."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Route, WebSocketRoute, expect

from .conftest import TIMEOUT_MS, Desk

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]
expect.set_options(timeout=TIMEOUT_MS)

REFUND = "My order A-1002 arrived broken. Please refund it."
# Every text the newest answer has had, and whether the caret stood behind it.
WATCH_ANSWERS = """
() => {
  window.states = [];
  new MutationObserver(() => {
    const answer = [...document.querySelectorAll("[data-ac-answer]")].at(-1);
    if (answer) window.states.push([answer.textContent, answer.getAttribute("aria-busy")]);
  }).observe(document.querySelector("[data-ac-entries]"), {subtree: true, childList: true, characterData: true});
}
"""
# What a reader sees of a conversation; durations are known only to those who watched.
READ = """
() => [...document.querySelectorAll("[data-ac-message] .text, [data-ac-answer], [data-ac-call], [data-ac-outcome],"
  + "[data-ac-output-field], [data-ac-usage]")].map((node) => node.textContent)
"""
# An approval whose decider changed the arguments, and its call, as the page's own cards draw them.
DRAW_EDITED = """
async () => {
  const { ApprovalCard, CallCard } = await import(
    new URL("cards.js", document.querySelector("script[type=module]").src));
  const asked = { id: "a1", tool: "pay", arguments: { cents: 500, to: "ada" }, status: "pending" };
  const [card, call] = [new ApprovalCard({ canDecide: false }), new CallCard()];
  card.update(asked);
  const before = card.node.querySelector("[data-ac-approval-edited]").hidden;
  const edited = { cents: 50, to: "ada" };
  for (let again = 0; again < 2; again += 1) {
    card.update({ ...asked, status: "approved", decided_by: "olga", reason: "", edited_arguments: edited });
  }
  call.update({ name: "pay", call_id: "c1", status: "succeeded", arguments: asked.arguments, result: null }, edited);
  const texts = (node, marks) => [...node.querySelectorAll(marks)].map((found) => found.textContent);
  return [before, texts(card.node, "h4, [data-ac-argument], [data-ac-edited-argument]"), texts(call.node, "h4")];
}
"""


@pytest.mark.covers("ui:1", "ui:2", "ui:4", "ui:15", "ui:16", "ui:18", "ui:21", "ui:22")
def test_a_refund_is_asked_for_approved_and_made_before_the_customers_eyes(desk: Desk) -> None:
    ada, olga = desk.person("ada"), desk.person("olga")
    case = desk.open_case(ada, "Broken cups")
    ada.page.evaluate(WATCH_ANSWERS)
    files = {"name": "letter.txt", "mimeType": "text/plain", "buffer": b"All four cups were broken.\nAda"}
    ada.page.locator("[data-ac-file-input]").set_input_files(files)
    expect(ada.page.locator("[data-ac-chip='letter.txt']")).to_have_attribute("data-ac-file-state", "extracted")
    desk.send(ada, REFUND)

    bubble = ada.page.locator("[data-ac-message][data-ac-author=user]")
    expect(bubble).to_have_count(1)
    bubble.evaluate("(node) => { window.bubble = node; }")
    expect(bubble).to_have_attribute("data-ac-state", "complete")
    assert bubble.evaluate("(node) => node === window.bubble"), "the bubble was drawn anew when the server confirmed it"
    expect(bubble.locator("[data-ac-file]")).to_have_text("letter.txt")

    expect(ada.page.locator("[data-ac-approval]")).to_contain_text("Waiting for an operator")
    expect(ada.page.locator("[data-ac-approve], [data-ac-deny]")).to_have_count(0)
    expect(ada.page.locator("[data-ac-tool=lookup_order] [data-ac-call]")).to_have_text("done")

    desk.visit(olga, case)
    expect(olga.page.locator("[data-ac-argument=amount_cents]")).to_have_text("3990")
    olga.page.locator("[data-ac-reason]").fill("The photo shows it.")
    olga.page.locator("[data-ac-approve]").dblclick()

    for person in (ada, olga):
        expect(person.page.locator("[data-ac-outcome]")).to_have_text("Approved by olga: “The photo shows it.”")
        expect(person.page.locator("[data-ac-tool=issue_refund] [data-ac-call]")).to_have_text("done")
        expect(person.page.locator("[data-ac-usage]")).to_contain_text("tokens")
    expect(olga.page.locator("[data-ac-output-field=refund]")).to_have_text("made")
    expect(ada.page.locator("[data-ac-output]")).to_have_count(0)  # the triage is for the team
    expect(ada.page.locator("[data-ac-answer]").last).to_contain_text("39.90 EUR")
    states = ada.page.evaluate("window.states")
    final = {text for text, _ in states[-1:]}
    streamed = {text for text, busy in states if busy == "true" and text not in final}
    assert len(streamed) >= 3, f"the text did not stream: {states}"
    assert states[-1][1] == "false", "the caret is still there"

    seen = ada.page.evaluate(READ)
    ada.page.reload()
    desk.wait_until_ready(ada)
    assert ada.page.evaluate(READ) == seen
    ada.page.locator("[data-ac-activity] summary").click()
    expect(ada.page.locator("[data-ac-event=done]")).to_have_count(1)
    seqs = ada.page.eval_on_selector_all("[data-ac-seq]", "(rows) => rows.map((row) => Number(row.dataset.acSeq))")
    assert seqs == list(range(len(seqs)))
    assert ada.complaints == olga.complaints == []


@pytest.mark.covers("ui:6", "ui:18", "ui:20")
def test_a_denied_refund_is_shown_as_denied_and_texts_are_shown_as_what_they_are(desk: Desk) -> None:
    ada, olga = desk.person("ada"), desk.person("olga")
    case = desk.open_case(ada, "Broken cups")
    desk.visit(olga, case)
    desk.send(ada, f"{REFUND} \u202eThanks\u200b! <img src=x onerror=alert(1)>")
    expect(olga.page.locator("[data-ac-argument=reason]")).to_contain_text("\\u{202e}Thanks\\u{200b}! <img src=x")
    olga.page.locator("[data-ac-reason]").fill("Two of four cups are whole.")
    olga.page.locator("[data-ac-deny]").click()
    expect(ada.page.locator("[data-ac-outcome]")).to_have_text("Denied by olga: “Two of four cups are whole.”")
    expect(ada.page.locator("[data-ac-tool=issue_refund] [data-ac-call]")).to_have_text("denied")
    expect(ada.page.locator("[data-ac-message] .text")).to_contain_text("\\u{202e}Thanks\u200b! <img src=x")
    expect(olga.page.locator("[data-ac-output-field=refund]")).to_have_text("denied")
    expect(olga.page.locator("[data-ac-output-field=summary]")).to_contain_text("<img src=x")
    expect(olga.page.locator("[data-ac-entries] img")).to_have_count(0)
    expect(ada.page.locator("[data-ac-entries] img")).to_have_count(0)
    assert ada.complaints == olga.complaints == []


@pytest.mark.covers("ui:3", "ui:14", "ui:8")
@pytest.mark.parametrize("desk", ["1"], indirect=True)
def test_a_message_that_was_not_sent_is_retried_once_and_its_answer_can_be_stopped(desk: Desk) -> None:
    ada = desk.person("ada")
    desk.open_case(ada, "Cups")
    keys: list[str] = []

    def refuse_first(route: Route) -> None:
        keys.append(route.request.post_data_json["key"])
        if len(keys) == 1:
            route.abort()
        else:
            route.continue_()

    ada.page.route("**/messages/", refuse_first)
    desk.send(ada, "How long do I have to send something back, and where is my order A-1001?")
    expect(ada.page.locator("[data-ac-state=failed]")).to_contain_text("Not sent.")
    ada.page.locator("[data-ac-retry-send]").click()
    expect(ada.page.locator("[data-ac-answer][aria-busy=true]")).to_be_visible()
    assert keys == [keys[0], keys[0]]
    expect(ada.page.locator("[data-ac-message]")).to_have_count(1)
    ada.page.reload()
    desk.wait_until_ready(ada)
    expect(ada.page.locator("[data-ac-stop]")).to_be_visible()
    ada.page.get_by_label("Message").press("Escape")
    expect(ada.page.locator("[data-ac-stopped]")).to_be_visible()
    expect(ada.page.locator("[data-ac-case-status]")).to_have_text("stopped")
    expect(ada.page.locator("[data-ac-stop]")).to_be_hidden()


@pytest.mark.covers("ui:18")
def test_an_approval_with_changed_arguments_shows_both(desk: Desk) -> None:
    ada = desk.person("ada")
    desk.open_case(ada, "Cups")
    hidden_before, card, call = ada.page.evaluate(DRAW_EDITED)
    assert hidden_before
    assert card == ["500", "ada", "Changed to", "50", "ada"]
    assert call == ["Arguments as asked", "Changed to"]


@pytest.mark.covers("ui:14", "ui:18")
def test_what_is_sent_behind_a_decision_waits_visibly_and_alone_can_be_withdrawn(desk: Desk) -> None:
    ada = desk.person("ada")
    desk.open_case(ada, "Broken cups")
    desk.send(ada, REFUND)
    expect(ada.page.locator("[data-ac-approval-status=pending]")).to_be_visible()
    desk.send(ada, "How long do I have to send something back?")
    expect(ada.page.locator("[data-ac-thinking]")).to_have_text("Waits for the decision above.")
    expect(ada.page.locator("[data-ac-case-status]")).to_have_text("needs approval")
    expect(ada.page.locator("[data-ac-stop]")).to_have_text("Cancel queued")
    ada.page.locator("[data-ac-stop]").click()
    expect(ada.page.locator("[data-ac-run-status=canceled] [data-ac-stopped]")).to_be_visible()
    expect(ada.page.locator("[data-ac-case-status]")).to_have_text("needs approval")
    expect(ada.page.locator("[data-ac-approval-status=pending]")).to_be_visible()
    expect(ada.page.locator("[data-ac-stop]")).to_be_hidden()
    assert ada.complaints == []


@pytest.mark.covers("ui:12", "ui:13")
def test_a_lost_connection_is_told_after_a_second_and_what_was_missed_is_filled_in(desk: Desk) -> None:
    ada = desk.person("ada")
    cut = {"now": False}
    routes: list[WebSocketRoute] = []
    nowhere: list[WebSocketRoute] = []

    def connect(route: WebSocketRoute) -> None:
        if cut["now"]:
            # Refused once, then taken and never answered: how long the outage takes this test is then not told by
            # the page's back-off, which on a slow machine came to its last words or to its longest pause.
            nowhere.append(route)
            if len(nowhere) == 1:
                route.close()
            return
        route.connect_to_server()
        routes.append(route)

    ada.page.route_web_socket("**/ws/agent/**", connect)
    desk.open_case(ada, "Cups")
    desk.send(ada, "Where is my order A-1002?")
    expect(ada.page.locator("[data-ac-message]")).to_have_attribute("data-ac-state", "complete")
    cut["now"] = True
    for route in routes:
        route.close()
    expect(ada.page.locator("[data-ac-banner]")).to_contain_text("Reconnecting")
    cut["now"] = False
    for route in nowhere[1:]:
        route.close()
    expect(ada.page.locator("[data-ac-banner]")).to_be_hidden()
    expect(ada.page.locator("[data-ac-usage]")).to_be_visible()
    expect(ada.page.locator("[data-ac-answer]").last).to_contain_text("A-1002")


@pytest.mark.covers("ui:25", "ui:23")
def test_the_page_fits_a_small_screen_and_speaks_to_those_who_do_not_see_it(desk: Desk) -> None:
    ada = desk.person("ada", width=320, height=640)
    desk.open_case(ada, "Cups" * 20)
    ada.page.get_by_role("button", name="arrived broken").click()
    expect(ada.page.get_by_label("Message")).to_have_value(re.compile("arrived broken"))
    ada.page.get_by_label("Message").fill(REFUND)
    ada.page.get_by_label("Message").press("Shift+Enter")
    ada.page.get_by_label("Message").type("Thanks.")
    ada.page.get_by_role("button", name="Send", exact=True).click()
    expect(ada.page.locator("[data-ac-message] .text")).to_have_text(f"{REFUND}\nThanks.")
    expect(ada.page.locator("[data-ac-approval]")).to_be_visible()
    expect(ada.page.locator("[data-ac-live]")).to_have_text("An operator’s approval is needed.")
    expect(ada.page.get_by_role("region", name="Conversation")).to_be_visible()
    for path in (ada.page.url, "/cases/", "/cases/new/"):
        ada.page.goto(path)
        assert ada.page.evaluate("document.documentElement.scrollWidth") <= 320, path
    assert ada.complaints == []
