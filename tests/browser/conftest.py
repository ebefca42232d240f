"""Chromium against the demo's real processes: one desk a test, one browser context a person."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import StringIO
from typing import TypeVar

import pytest
from django.core.management import call_command
from django.db import connections
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.stack import Stack

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
TIMEOUT_MS = 20_000
T = TypeVar("T")
# Told to the console, so that one list holds everything a page complains about.
REPORT_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) => {
  console.error(`CSP: ${event.violatedDirective} ${event.blockedURI}`);
});
"""


@dataclass
class Person:
    """Somebody at a browser of their own, logged in."""

    name: str
    page: Page
    complaints: list[str] = field(default_factory=list)

    @property
    def context(self) -> BrowserContext:
        return self.page.context


class Desk:
    """The running demo and the browser to visit it with."""

    def __init__(self, url: str, browser: Browser) -> None:
        self.url = url
        self.browser = browser
        self.people: list[Person] = []

    def person(self, name: str, width: int = 1200, height: int = 800) -> Person:
        """Log somebody in."""
        context = self.browser.new_context(base_url=self.url, viewport={"width": width, "height": height})
        context.add_init_script(REPORT_VIOLATIONS)
        context.set_default_timeout(TIMEOUT_MS)
        person = Person(name, context.new_page())
        person.page.on("console", lambda said: said.type == "error" and person.complaints.append(said.text))
        person.page.on("pageerror", lambda error: person.complaints.append(str(error)))
        person.page.goto("/accounts/login/")
        person.page.get_by_label("Username").fill(name)
        person.page.get_by_label("Password").fill(name)
        person.page.get_by_role("button", name="Log in").click()
        person.page.wait_for_url("**/cases/")
        self.people.append(person)
        return person

    def open_case(self, person: Person, subject: str) -> str:
        """Open a case and return the address of its page, which is ready to be written in."""
        person.page.goto("/cases/new/")
        person.page.get_by_label("Subject").fill(subject)
        person.page.get_by_role("button", name="Open the case").click()
        self.wait_until_ready(person)
        return person.page.url

    def visit(self, person: Person, url: str) -> None:
        """Open a case's page and wait until it follows its thread."""
        person.page.goto(url)
        self.wait_until_ready(person)

    def backstage(self, work: Callable[[], T]) -> T:
        """Do something in this process while the browser looks on; Playwright's own thread may not ask the database."""

        def done() -> T:
            try:
                return work()
            finally:
                connections.close_all()

        with ThreadPoolExecutor(1) as executor:
            return executor.submit(done).result()

    def wait_until_ready(self, person: Person) -> None:
        person.page.wait_for_selector("[data-ac-thread][data-ac-ready]")

    def send(self, person: Person, text: str) -> None:
        """Write a message and send it with Enter."""
        person.page.get_by_label("Message").fill(text)
        person.page.get_by_label("Message").press("Enter")


@contextmanager
def _opened(stack: Stack, pytestconfig: pytest.Config) -> Iterator[Desk]:
    if CHROMIUM is None:
        assert not pytestconfig.getoption("require_chromium"), "Chromium is not installed: apt-get install chromium"
        pytest.skip("Chromium is not installed")
    call_command("seed_demo", verbosity=0, stdout=StringIO())
    web = stack.web(DEMO_MODEL="offline")
    # Chromium leaves files, and needs a short path for a socket.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place, sync_playwright() as playwright:
        env: dict[str, str | float | bool] = {**os.environ, "TMPDIR": place}
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS, env=env)
        yield Desk(web.url, browser)
        browser.close()


@pytest.fixture
def desk(stack: Stack, request: pytest.FixtureRequest) -> Iterator[Desk]:
    """The demo with its logins and orders: web server, worker and sweeper as processes.

    A test may give the pause after each word of the model as the fixture's parameter.
    """
    stack.worker(DEMO_MODEL="offline", DEMO_MODEL_DELAY=getattr(request, "param", "0.05"))
    stack.sweeper()
    with _opened(stack, request.config) as opened:
        yield opened


@pytest.fixture
def quiet_desk(stack: Stack, request: pytest.FixtureRequest) -> Iterator[Desk]:
    """The demo without a worker: what a test drives backstage is all that happens."""
    with _opened(stack, request.config) as opened:
        yield opened
