"""The support desk with a provider: whole cases through a server that speaks chat and knows of tools only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import AbstractUser
from django.core.files.uploadedfile import SimpleUploadedFile

from agentcore import FilePart, TextPart
from agentcore.declaration import registry
from agentcore.models import Approval, Message, Run
from agentcore.testing import HttpModel, run_until_idle
from agentcore.testing.faults.http_model import FunctionCall, asks, says
from supportdemo.cases.agents import support
from supportdemo.cases.models import Case, Order, Refund
from supportdemo.providers import choose_model, require
from tests.wires import WIRES, Text

from .demo import client_of, open_case, pdf, post

pytestmark = pytest.mark.django_db

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 64
TRIAGE = {
    "category": "refund",
    "urgency": "normal",
    "sentiment": "negative",
    "summary": "A late parcel.",
    "refund": "made",
}
RECORD = FunctionCall("final_answer", TRIAGE)


@pytest.fixture(autouse=True)
def media(settings: LazySettings, tmp_path: Path) -> Path:
    settings.MEDIA_ROOT = tmp_path / "media"
    return settings.MEDIA_ROOT


@contextmanager
def asked() -> Iterator[None]:
    """Have the support agent ask the model that the environment chooses now; a process of the demo begins with that."""
    model = choose_model()
    require(model)  # as a worker does: what it needs takes seconds to load
    with registry.isolated():
        registry.replace(replace(support.definition, model=model))
        yield


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpModel]:
    """A server that speaks chat, chosen as a person would choose it."""
    with HttpModel() as model:
        monkeypatch.delenv("DEMO_MODEL", raising=False)
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        monkeypatch.setenv("OPENAI_BASE_URL", model.url)
        monkeypatch.setenv("OPENAI_MODEL", f"test-{uuid4().hex}")  # a name is a model for as long as a process lives
        with asked():
            yield model


@pytest.fixture
def anthropic(monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpModel]:
    """A provider whose models read files."""
    wire = WIRES["anthropic"]
    with wire.serve() as server:
        for name, value in (("API_KEY", wire.key), ("BASE_URL", wire.base(server))):
            monkeypatch.setenv(f"ANTHROPIC_{name}", value)
        monkeypatch.setenv("DEMO_MODEL", f"anthropic:{wire.model}-{uuid4().hex}")
        with asked():
            yield server


def played(user: AbstractUser, case: Case, **body: Any) -> Run:
    """Send a message to the case, and drive its run as far as it goes."""
    body = {"text": "A-1001 is late. I want my money back.", "key": uuid4().hex, **body}
    answer = post(client_of(user), case, **body)
    assert answer.status_code == 201, answer.content
    return run_until_idle(Run.objects.get(pk=answer.json()["run"]["id"]))


def upload(user: AbstractUser, case: Case, name: str, data: bytes) -> str:
    answer = client_of(user).post(f"/cases/{case.pk}/files/", {"file": SimpleUploadedFile(name, data)})
    assert answer.status_code == 201, answer.content
    return str(answer.json()["id"])


def reply_to(run: Run) -> str:
    last = Message.objects.filter(run=run, author_kind="agent").in_order().last()
    assert last is not None
    return last.text


# --- a case ----------------------------------------------------------------------------------------------------


def test_a_case_is_answered_with_tools_a_reply_and_its_triage(
    user: AbstractUser, supervisor: AbstractUser, case: Case, server: HttpModel
) -> None:
    Order.objects.create(number="A-1001", customer=user, item="Espresso machine", total_cents=10_000)
    refund = FunctionCall("issue_refund", {"order": "A-1001", "amount_cents": 500, "reason": "Late."})
    server.replies += [
        asks(FunctionCall("lookup_order", {"number": "A-1001"}), text="One moment."),
        asks(refund),
        asks(RECORD, text="Your 5 euros are on their way."),
    ]
    run = played(user, case)
    assert run.status == "waiting" and not Refund.objects.exists()
    approval = Approval.objects.get(run=run)
    support.tools.approve(approval.pk, user=supervisor, digest=approval.digest)
    run = run_until_idle(run)
    assert (run.status, run.output) == ("succeeded", TRIAGE)
    assert reply_to(run) == "Your 5 euros are on their way." and Refund.objects.get().amount_cents == 500
    assert {seen.path for seen in server.requests} == {"/v1/chat/completions"} and server.unexpected == 0
    assert "response_format" not in server.requests[-1].body


def test_a_record_without_a_reply_is_followed_by_one(user: AbstractUser, case: Case, server: HttpModel) -> None:
    server.replies += [asks(RECORD), says("Your parcel comes tomorrow.")]
    run = played(user, case)
    assert (run.status, run.output, reply_to(run)) == ("succeeded", TRIAGE, "Your parcel comes tomorrow.")


def test_a_triage_that_is_not_valid_is_asked_for_again(user: AbstractUser, case: Case, server: HttpModel) -> None:
    wrong = FunctionCall("final_answer", {**TRIAGE, "urgency": "whenever"})
    server.replies += [asks(wrong, text="It comes tomorrow."), asks(RECORD)]
    run = played(user, case)
    assert (run.status, run.output, reply_to(run)) == ("succeeded", TRIAGE, "It comes tomorrow.")


# --- its files --------------------------------------------------------------------------------------------------


def pictures(seen: Any) -> list[str]:
    """The kinds of the files in the last message of a request to Anthropic."""
    return [block["type"] for block in seen.body["messages"][-1]["content"] if block["type"] != "text"]


def test_pictures_and_scans_of_the_message_are_shown_to_a_model_that_reads_them(
    user: AbstractUser, case: Case, anthropic: HttpModel
) -> None:
    wire = WIRES["anthropic"]
    anthropic.replies += [wire.answer(Text(("I see.",)), RECORD) for _ in range(2)]
    files = [upload(user, case, *file) for file in (("cup.png", PNG), ("scan.pdf", pdf("")))]
    files.append(upload(user, case, "invoice.pdf", pdf("Invoice for A-1001")))
    assert played(user, case, files=files).status == "succeeded"
    assert pictures(anthropic.requests[0]) == ["image", "document"]
    assert "Invoice for A-1001" in str(anthropic.requests[0].body["system"])
    # What was seen has been said: a later message does not pay for it again.
    assert played(user, case, text="And now?").status == "succeeded"
    assert not any(kind in str(anthropic.requests[1].body) for kind in ("'image'", "'document'"))
    assert "cup.png" in str(anthropic.requests[1].body["messages"])


def test_a_server_of_which_nobody_knows_whether_it_reads_files_is_told_their_names(
    user: AbstractUser, case: Case, server: HttpModel
) -> None:
    server.replies.append(asks(RECORD, text="I cannot see it."))
    run = played(user, case, files=[upload(user, case, "cup.png", PNG)])
    assert run.status == "succeeded"
    assert "[attached file: cup.png (image/png)]" in server.requests[0].prompt
    assert "image_url" not in str(server.requests[0].body)


def test_a_file_of_another_case_is_not_shown_whoever_names_it(
    user: AbstractUser, other_user: AbstractUser, case: Case, anthropic: HttpModel
) -> None:
    secret = upload(other_user, open_case(other_user), "secret.png", PNG)
    anthropic.replies.append(WIRES["anthropic"].answer(Text(("Nothing.",)), RECORD))
    parts = [TextPart("Look."), FilePart(secret, "secret.png", "image/png")]
    run = support.runs.send(case.thread, parts, user=user, metadata={"files": [secret]})
    assert run_until_idle(run).status == "succeeded"
    assert pictures(anthropic.requests[0]) == []


def test_a_picture_that_the_store_has_lost_costs_the_picture_and_not_the_answer(
    user: AbstractUser, case: Case, anthropic: HttpModel, media: Path
) -> None:
    files = [upload(user, case, "cup.png", PNG)]
    next((media / "attachments").iterdir()).unlink()
    anthropic.replies.append(WIRES["anthropic"].answer(Text(("Send it again.",)), RECORD))
    assert played(user, case, files=files).status == "succeeded"
    assert pictures(anthropic.requests[0]) == []
