"""What the demo's tests share: a logged-in client, a case, and PDF files made by hand."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from django.contrib.auth.models import AbstractUser
from django.test import Client

from supportdemo.cases.agents import support
from supportdemo.cases.models import Case


def client_of(user: AbstractUser) -> Client:
    """A browser in which `user` is logged in; CSRF has a test of its own."""
    client = Client()
    client.force_login(user)
    return client


def open_case(user: AbstractUser, subject: str = "Late parcel") -> Case:
    """A case of `user`."""
    thread = support.threads.create(user=user, title=subject)
    case: Case = Case.objects.create(customer=user, thread=thread, subject=subject)
    return case


def post(client: Client, case: Case, **body: Any) -> Any:
    """Send a message to a case as the page does."""
    body = {"text": "Hello", "key": "key-00000001", **body}
    return client.post(f"/cases/{case.pk}/messages/", json.dumps(body), content_type="application/json")


@dataclass
class FakeContext:
    """What a tool is told, without a run."""

    user: Any
    idempotency_key: str = "key-1"
    run_id: Any = field(default_factory=uuid4)
    thread_id: Any = field(default_factory=uuid4)
    call_id: str = "call_1"
    attempt: int = 1
    cancelled: bool = False

    def progress(self, value: Any) -> None:
        """Nobody watches."""


def pdf(*pages: str, more: bytes = b"") -> bytes:
    """A PDF with one line of text on each page; `more` is put into every content stream."""
    kids = " ".join(f"{3 + 2 * number} 0 R" for number in range(len(pages)))
    font = 3 + 2 * len(pages)
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode()]
    for number, text in enumerate(pages):
        resources = f"<< /Font << /F1 {font} 0 R >> >>"
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources {resources} "
            f"/Contents {4 + 2 * number} 0 R >>".encode()
        )
        content = (f"BT /F1 12 Tf 50 800 Td ({text}) Tj ET".encode() if text else b"") + more
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content))
    objects.append(b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>")
    data, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    count = len(objects) + 1
    data += b"xref\n0 %d\n0000000000 65535 f \n%strailer\n<< /Size %d /Root 1 0 R >>\n" % (count, table, count)
    return data + b"startxref\n%d\n%%%%EOF\n" % data.rindex(b"xref\n0")


def body_of(response: Any) -> bytes:
    """The whole body of a plain or streamed response."""
    return b"".join(response.streaming_content) if response.streaming else response.content
