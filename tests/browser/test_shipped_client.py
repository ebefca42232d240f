"""The shipped client on the stock API, with nothing of the demo between them: a message stands once."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth import get_user_model
from playwright.sync_api import Page, Route, WebSocketRoute

from agentcore.models import Message
from agentcore.services import threads
from tests.stack import wait_for

from .conftest import Desk, Person

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

OPEN = """
async ([threadId, csrfCookie]) => {
  const { AgentThread } = await import("/static/agentcore/agent-client.js");
  window.thread = new AgentThread({ threadId, agent: "support", csrfCookie });
  window.most = 0; // how many messages of a person stood at once
  thread.addEventListener("change", () => { window.most = Math.max(window.most, mine().length); });
  window.mine = () => thread.state.messages.filter((message) => message.author.kind === "user");
  await thread.start();
}
"""


class Wire:
    """Holds back what the socket brings and what the POST answers, until the test lets it through."""

    def __init__(self, page: Page) -> None:
        self.frames: list[Any] = []
        self.routes: list[WebSocketRoute] = []
        self.posts: list[Route] = []
        self.is_slow = True
        page.route_web_socket("**/ws/agent/**", self._connect)
        page.route("**/agent/threads/*/runs", self._post)

    def _connect(self, route: WebSocketRoute) -> None:
        server = route.connect_to_server()
        server.on_message(lambda text: self.frames.append((route, text)) if self.is_slow else route.send(text))
        self.routes.append(route)

    def _post(self, route: Route) -> None:
        self.posts.append(route)

    def until_posted(self, page: Page) -> None:
        """Wait until the page's POST has come to the wire."""
        wait_for(lambda: page.wait_for_timeout(1) or self.posts, 20, "a POST")

    def let_frames_through(self) -> None:
        self.is_slow = False
        for route, text in self.frames:
            route.send(text)
        self.frames.clear()

    def let_post_through(self) -> None:
        self.posts.pop(0).continue_()

    def lose_answer(self) -> None:
        """The server gets the request, and its answer gets lost."""
        route = self.posts.pop(0)
        assert route.fetch().status in (200, 201)
        route.abort()


def until(page: Page, expression: str) -> None:
    """Wait until something is true on the page; its policy forbids Playwright's own way, which evaluates there."""
    wait_for(lambda: page.evaluate(expression), 20, expression)


def until_settled(page: Page, count: int) -> None:
    """Wait until so many messages stand, each of them known to the server."""
    until(page, f"mine().length === {count} && mine().every((message) => message.id)")


def blank_page(person: Person) -> Page:
    """A page of one's own with nothing on it but the shipped client."""
    page = person.context.new_page()
    page.goto("/accounts/login/")
    return page


def start(page: Page, thread_id: str) -> None:
    page.evaluate(OPEN, [thread_id, "supportdemo_csrf"])


def send(page: Page, text: str = "Hello") -> None:
    page.evaluate("(text) => { thread.send(text); }", text)


def new_thread(desk: Desk) -> str:
    def create() -> str:
        return str(threads.create(user=get_user_model().objects.get(username="ada")).pk)

    return desk.backstage(create)


def stored(desk: Desk, thread_id: str) -> int:
    return desk.backstage(Message.objects.filter(thread=thread_id, author_kind="user").count)


@pytest.mark.covers("fc:E1")
@pytest.mark.parametrize("first", ["answer", "frame", "frame and no answer"])
def test_a_message_stands_once_whichever_comes_first(quiet_desk: Desk, first: str) -> None:
    ada = quiet_desk.person("ada")
    thread_id = new_thread(quiet_desk)
    page = blank_page(ada)
    wire = Wire(page)
    start(page, thread_id)
    send(page)
    wire.until_posted(page)
    uid = page.evaluate("mine()[0].uid")
    if first == "answer":
        wire.let_post_through()
        until(page, "mine()[0].status === 'sent'")
        wire.let_frames_through()
    elif first == "frame":
        wire.let_frames_through()
        answer = wire.posts[0].fetch()
        until_settled(page, 1)
        wire.posts.pop(0).fulfill(response=answer)
    else:
        wire.let_frames_through()
        wire.lose_answer()
    until_settled(page, 1)
    assert page.evaluate("[mine()[0].uid, mine()[0].status, most]") == [uid, "complete", 1]
    page.reload()
    start(page, thread_id)
    assert page.evaluate("mine().length") == 1 == stored(quiet_desk, thread_id)


@pytest.mark.covers("fc:E1")
def test_a_lost_answer_is_asked_for_again_and_two_tabs_and_a_reload_agree(quiet_desk: Desk) -> None:
    ada = quiet_desk.person("ada")
    thread_id = new_thread(quiet_desk)
    one, two = (blank_page(ada) for _ in range(2))
    wire = Wire(one)
    for page in (one, two):
        start(page, thread_id)
    send(one)
    wire.until_posted(one)
    wire.lose_answer()
    until(one, "mine()[0].status === 'failed'")
    until_settled(two, 1)
    one.evaluate("() => { thread.retrySend(mine()[0].key); }")
    wire.until_posted(one)
    wire.let_post_through()
    until(one, "mine()[0].status === 'sent'")
    send(two)  # the same words from the other tab are another message
    until_settled(two, 2)
    wire.let_frames_through()
    until_settled(one, 2)
    assert one.evaluate("mine().map(({ id }) => id)") == two.evaluate("mine().map(({ id }) => id)")
    # Left in the middle of a send: what the server got is there after the reload, once.
    send(one, "And this")
    wire.until_posted(one)
    wire.posts.pop(0).fetch()
    one.reload()
    start(one, thread_id)
    assert one.evaluate("mine().map(({ text }) => text)") == ["Hello", "Hello", "And this"]
    assert stored(quiet_desk, thread_id) == 3


@pytest.mark.covers("fc:E1")
def test_two_messages_under_way_at_once_each_stand_once(quiet_desk: Desk) -> None:
    thread_id = new_thread(quiet_desk)
    page = blank_page(quiet_desk.person("ada"))
    wire = Wire(page)
    start(page, thread_id)
    for text in ("Same", "Same"):
        send(page, text)
    wait_for(lambda: page.wait_for_timeout(1) or len(wire.posts) == 2, 20, "two POSTs")
    uids = page.evaluate("mine().map(({ uid }) => uid)")
    answers = [route.fetch() for route in wire.posts]
    wire.posts[1].fulfill(response=answers[1])  # the later one is answered first
    until(page, "mine()[1].status === 'sent'")
    wire.let_frames_through()
    until_settled(page, 2)
    wire.posts[0].fulfill(response=answers[0])
    page.wait_for_timeout(300)
    assert page.evaluate("[mine().map(({ uid }) => uid), most]") == [uids, 2]
    page.reload()
    start(page, thread_id)
    assert page.evaluate("mine().map(({ text }) => text)") == ["Same", "Same"]
    assert stored(quiet_desk, thread_id) == 2
