"""The demo under requests at once: one run a key, one use a count, one payment for the money there is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import AbstractUser
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import close_old_connections, connection
from django.test import Client

from agentcore.exceptions import ToolFailed
from agentcore.models import Message, Run
from supportdemo.accounts import forms
from supportdemo.accounts.limits import RateLimit
from supportdemo.accounts.models import Allowance
from supportdemo.cases import sending
from supportdemo.cases.forms import MessageIn
from supportdemo.cases.models import Order, Refund
from supportdemo.cases.tools import issue_refund
from supportdemo.files import store as files
from supportdemo.files.sniff import sniff
from supportdemo.files.store import MAX_FILES, store
from supportdemo.problems import Problem

from .demo import FakeContext, client_of, open_case

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("one_window")]


def at_once(times: int, function: Callable[[int], Any]) -> list[Any]:
    """Call `function` with 0, 1, 2 … in threads of their own and return what each returned or raised."""

    def call(number: int) -> Any:
        close_old_connections()
        try:
            return function(number)
        except (Problem, ToolFailed) as error:
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(call, range(times)))


@pytest.mark.covers("api:I1")
def test_equal_sends_at_once_make_one_run_and_cost_one_use(user: AbstractUser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "SENDS", RateLimit("send", times=3, seconds=3600))
    case = open_case(user)
    message = MessageIn(text="Hello", key="key-00000001")
    outcomes = at_once(16, lambda number: sending.send(case, user, message))
    assert len({outcome.run.pk for outcome in outcomes}) == 1
    assert sum(outcome.created for outcome in outcomes) == 1
    assert Run.objects.count() == Message.objects.count() == 1
    assert Allowance.objects.get().used == 1


def test_different_sends_at_once_stop_at_the_quota(user: AbstractUser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "SENDS", RateLimit("send", times=3, seconds=3600))
    case = open_case(user)
    outcomes = at_once(8, lambda number: sending.send(case, user, MessageIn(text="Hi", key=f"key-{number:08}")))
    assert [outcome.status for outcome in outcomes if isinstance(outcome, Problem)] == [429] * 5
    assert Run.objects.count() == Message.objects.count() == Allowance.objects.get().used == 3


def test_refund_with_one_key_at_once_is_paid_once(user: AbstractUser) -> None:
    order = Order.objects.create(number="A-1001", customer=user, item="Cup", total_cents=1_000)
    results = at_once(
        8, lambda number: issue_refund(FakeContext(user, "key-1"), order="A-1001", amount_cents=100, reason="late")
    )
    assert len({result["refund"] for result in results}) == 1
    order.refresh_from_db()
    assert order.refunded_cents == 100 and Refund.objects.count() == 1


def test_refunds_at_once_never_pay_more_than_there_is(user: AbstractUser) -> None:
    order = Order.objects.create(number="A-1001", customer=user, item="Cup", total_cents=1_000)
    results = at_once(
        8, lambda number: issue_refund(FakeContext(user, str(uuid4())), order="A-1001", amount_cents=300, reason="late")
    )
    assert sum(isinstance(result, ToolFailed) for result in results) == 5
    order.refresh_from_db()
    assert order.refunded_cents == 900 and Refund.objects.count() == 3


@pytest.mark.covers("fc:E14")
def test_uploads_at_once_stop_at_the_room_there_is(
    user: AbstractUser, settings: LazySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.MEDIA_ROOT = tmp_path
    case = open_case(user)
    for number in range(MAX_FILES - 2):
        store(case, user, SimpleUploadedFile(f"{number}.txt", b"There."))
    all_found_room, keep = threading.Barrier(16), files._keep

    def read(*given: Any) -> Any:
        all_found_room.wait(30)
        return sniff(*given)

    def keep_slowly(*given: Any) -> None:
        time.sleep(0.2)  # whoever does not wait for this one counts meanwhile
        keep(*given)

    monkeypatch.setattr(files, "sniff", read)
    monkeypatch.setattr(files, "_keep", keep_slowly)
    clients = [client_of(user) for _ in range(16)]

    def upload(number: int) -> Any:
        file = SimpleUploadedFile(f"more{number}.txt", b"Here.")
        return clients[number].post(f"/cases/{case.pk}/files/", {"file": file})

    answers = [(answer.status_code, answer.json().get("code")) for answer in at_once(16, upload)]
    assert sorted(answers, key=str) == [(201, None)] * 2 + [(409, "too_many_files")] * 14
    stored = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert case.attachments.count() == len(stored) == MAX_FILES


@pytest.mark.covers("fc:E14")
def test_of_guesses_at_once_no_more_are_judged_than_the_limit_allows(
    user: AbstractUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_found_some, judged = threading.Barrier(30), list[str]()
    take = RateLimit.take

    def together(limit: RateLimit, subject: str) -> int | None:
        if limit is forms.GUESSES:
            all_found_some.wait(30)
        return take(limit, subject)

    def judge(request: Any, **credentials: str) -> None:
        judged.append(credentials["username"])

    monkeypatch.setattr(RateLimit, "take", together)
    monkeypatch.setattr("django.contrib.auth.forms.authenticate", judge)
    guess = {"username": "ada", "password": "wrong"}
    answers = at_once(30, lambda number: Client().post("/accounts/login/", guess).content.decode())
    assert judged == ["ada"] * forms.GUESSES.times
    assert sum("Too many attempts" in answer for answer in answers) == 30 - forms.GUESSES.times
