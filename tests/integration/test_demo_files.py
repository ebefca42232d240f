"""The demo's attachments: checked by their bytes, stored under no name of the sender's, given to nobody else."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import AbstractUser, Permission
from django.core.files.uploadedfile import SimpleUploadedFile
from pypdf import PdfReader, PdfWriter

from supportdemo.cases.models import Case
from supportdemo.files import extract
from supportdemo.files.extract import MAX_CHARACTERS
from supportdemo.files.models import Attachment
from supportdemo.files.names import clean_name
from supportdemo.files.sniff import MAX_BYTES
from supportdemo.files.store import MAX_FILES

from .demo import body_of, client_of, pdf

pytestmark = [pytest.mark.once, pytest.mark.django_db]
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 64
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


@pytest.fixture(autouse=True)
def media(settings: LazySettings, tmp_path: Path) -> Path:
    settings.MEDIA_ROOT = tmp_path / "media"
    return settings.MEDIA_ROOT


def upload(user: AbstractUser, case: Case, name: str, data: bytes) -> Any:
    return client_of(user).post(f"/cases/{case.pk}/files/", {"file": SimpleUploadedFile(name, data)})


def test_text_file_is_stored_read_and_described(user: AbstractUser, case: Case, media: Path) -> None:
    response = upload(user, case, "note.txt", "Grüße,\r\nAda\n".encode())
    assert response.status_code == 201
    attachment = Attachment.objects.get()
    assert response.json() == {
        "id": str(attachment.pk),
        "name": "note.txt",
        "size": 14,
        "media_type": "text/plain",
        "status": "extracted",
        "truncated": False,
        "error": "",
        "url": f"/files/{attachment.pk}/",
    }
    assert (attachment.text, attachment.owner, attachment.case) == ("Grüße,\nAda", user, case)
    assert attachment.file.name.startswith("attachments/") and "note" not in attachment.file.name
    assert (media / attachment.file.name).read_bytes() == "Grüße,\r\nAda\n".encode()


@pytest.mark.parametrize("name", ["a.txt", "a.TXT", "a.md", "a.csv", "a.json", "a.log"])
def test_every_kind_of_text_is_accepted(user: AbstractUser, case: Case, name: str) -> None:
    # "BM" opens a bitmap as well: what is text stays text.
    assert upload(user, case, name, b"BM: hello").status_code == 201


def test_long_text_is_cut_and_says_so(user: AbstractUser, case: Case) -> None:
    body = upload(user, case, "long.txt", b"word " * 10_000).json()
    assert (body["status"], body["truncated"]) == ("extracted", True)
    assert len(Attachment.objects.get().text) == MAX_CHARACTERS


def test_pdf_text_is_read(user: AbstractUser, case: Case) -> None:
    body = upload(user, case, "invoice.pdf", pdf("Invoice for A-1001", "Page two")).json()
    assert (body["status"], body["media_type"]) == ("extracted", "application/pdf")
    assert "Invoice for A-1001" in Attachment.objects.get().text and "Page two" in Attachment.objects.get().text


@pytest.mark.parametrize(
    "name, data, media_type",
    [
        ("cup.png", PNG, "image/png"),
        ("cup.JPG", b"\xff\xd8\xff\xe0" + b"\0" * 64, "image/jpeg"),
        ("cup.webp", b"RIFF\0\0\0\0WEBPVP8 " + b"\0" * 64, "image/webp"),
    ],
)
def test_a_picture_is_stored_for_a_model_that_can_look_at_it(
    user: AbstractUser, case: Case, name: str, data: bytes, media_type: str
) -> None:
    body = upload(user, case, name, data).json()
    assert (body["status"], body["media_type"]) == ("picture", media_type)
    assert Attachment.objects.get().text == ""


def encrypted() -> bytes:
    from io import BytesIO

    writer = PdfWriter(clone_from=PdfReader(BytesIO(pdf("Secret"))))
    writer.encrypt("password", algorithm="RC4-128")
    out = BytesIO()
    writer.write(out)
    return out.getvalue()


@pytest.mark.covers("threat:T20")
@pytest.mark.parametrize(
    "data, status, error",
    [
        (pdf(*["x"] * 51), "metadata_only", "51 pages"),
        (pdf(""), "picture", "no text"),
        (encrypted(), "metadata_only", "password"),
        (b"%PDF-1.7\n" + b"nonsense " * 100, "failed", "could not be read"),
        (pdf("x").replace(b"/Kids [3 0 R]", b"/Kids [2 0 R]"), "failed", "could not be read"),
    ],
    ids=["pages", "scan", "encrypted", "damaged", "loop"],
)
def test_pdf_that_cannot_be_read_is_kept_and_says_why(
    user: AbstractUser, case: Case, data: bytes, status: str, error: str
) -> None:
    response = upload(user, case, "a.pdf", data)
    assert response.status_code == 201
    assert response.json()["status"] == status and error in response.json()["error"]
    assert Attachment.objects.get().text == ""


@pytest.mark.covers("threat:T20")
@pytest.mark.parametrize("body", ["while True: pass", "import time; time.sleep(60)", "x = bytearray(2**30)"])
def test_reader_out_of_bounds_is_ended_and_costs_only_the_text(
    user: AbstractUser, case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    real = extract.READER.read_text()
    evil = tmp_path / "reader.py"
    evil.write_text(real.replace("CPU_SECONDS = 10", "CPU_SECONDS = 1").replace("    import io\n", f"    {body}\n"))
    monkeypatch.setattr(extract, "READER", evil)
    monkeypatch.setattr(extract, "WALL_SECONDS", 3)
    assert upload(user, case, "a.pdf", pdf("x")).json()["status"] == "failed"


@pytest.mark.covers("threat:T18")
@pytest.mark.parametrize(
    "name, data, status, code",
    [
        ("page.html", b"<script>alert(1)</script>", 415, "file_type"),
        ("picture.svg", SVG, 415, "file_type"),
        ("page.png", b"<html>", 415, "file_mismatch"),
        ("photo.jpg", PNG, 415, "file_mismatch"),
        ("photo.gif", b"GIF89a", 415, "file_type"),
        ("program.exe", b"MZ", 415, "file_type"),
        ("nosuffix", b"hello", 415, "file_type"),
        ("report.docx", b"PK\x03\x04", 415, "file_type"),
        ("picture.txt", PNG, 415, "file_not_text"),
        ("binary.csv", b"a,b\0c", 415, "file_not_text"),
        ("latin.txt", "Grüße".encode("latin-1"), 415, "file_not_text"),
        ("hidden.txt", pdf("x"), 415, "file_mismatch"),
        ("page.pdf", b"<html>%PDF-1.4", 415, "file_mismatch"),
        ("picture.pdf", PNG, 415, "file_mismatch"),
        ("large.txt", b"x" * (MAX_BYTES + 1), 413, "file_too_large"),
    ],
)
def test_file_that_is_not_accepted_is_refused_with_a_reason(
    user: AbstractUser, case: Case, media: Path, name: str, data: bytes, status: int, code: str
) -> None:
    response = upload(user, case, name, data)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response["Content-Type"] == "application/problem+json"
    assert {"type", "title", "status", "detail", "code", "id"} <= response.json().keys()
    assert not Attachment.objects.exists() and not list(media.rglob("*"))


def test_missing_and_empty_file_are_said(user: AbstractUser, case: Case) -> None:
    assert client_of(user).post(f"/cases/{case.pk}/files/").json()["code"] == "file_missing"
    assert upload(user, case, "empty.txt", b"").json()["code"] == "file_empty"


@pytest.mark.covers("threat:T19")
@pytest.mark.parametrize(
    "sent, kept",
    [
        ("../../etc/passwd.txt", "passwd.txt"),
        ("C:\\Users\\x\\note.txt", "note.txt"),
        ("a\0b.txt", "ab.txt"),
        ("a\r\nX-Header: 1.txt", "aX-Header: 1.txt"),
        ("invoice\u202etxt.exe.txt", "invoicetxt.exe.txt"),
        ("zero\u200bwidth.txt", "zerowidth.txt"),
        ("\ud800.txt", "txt"),
        ("..", "file"),
        ("", "file"),
        ("CON.txt", "CON.txt"),
        ('say "hi"; filename=x.txt', 'say "hi"; filename=x.txt'),
    ],
)
def test_names_are_made_harmless(sent: str, kept: str) -> None:
    assert clean_name(sent) == kept


def test_long_name_keeps_its_suffix() -> None:
    assert clean_name("n" * 300 + ".txt") == "n" * 116 + ".txt"


@pytest.mark.covers("threat:T18", "threat:T19")
def test_download_is_an_attachment_in_a_sandbox(user: AbstractUser, case: Case) -> None:
    url = upload(user, case, 'Grüße "1".txt', b"<script>alert(1)</script>").json()["url"]
    response = client_of(user).get(url)
    assert body_of(response) == b"<script>alert(1)</script>"
    assert response["Content-Disposition"].startswith("attachment; filename*=utf-8''Gr%C3%BC%C3%9Fe")
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["Content-Security-Policy"] == "sandbox; default-src 'none'"
    assert response["Cache-Control"] == "private, no-store"


@pytest.mark.covers("threat:T1", "threat:T31")
def test_strangers_file_answers_like_a_missing_one(user: AbstractUser, other_user: AbstractUser, case: Case) -> None:
    url = upload(user, case, "note.txt", b"private").json()["url"]
    stranger = client_of(other_user)
    foreign, missing = stranger.get(url), stranger.get(f"/files/{uuid4()}/")
    assert foreign.status_code == missing.status_code == 404
    assert b"private" not in foreign.content and b"note.txt" not in foreign.content


def test_strangers_case_takes_no_file(user: AbstractUser, other_user: AbstractUser, case: Case) -> None:
    foreign = upload(other_user, case, "note.txt", b"hello")
    case.pk = uuid4()
    missing = upload(other_user, case, "note.txt", b"hello")
    assert foreign.status_code == missing.status_code == 404
    assert {**foreign.json(), "id": ""} == {**missing.json(), "id": ""}
    assert not Attachment.objects.exists()


def test_nobody_is_sent_to_the_log_in(user: AbstractUser, case: Case) -> None:
    from django.test import Client

    url = upload(user, case, "note.txt", b"private").json()["url"]
    assert Client().get(url).status_code == 302
    assert Client().post(f"/cases/{case.pk}/files/").status_code == 401


def test_operator_reads_files_but_adds_none(user: AbstractUser, operator: AbstractUser, case: Case) -> None:
    url = upload(user, case, "note.txt", b"hello").json()["url"]
    assert client_of(operator).get(url).status_code == 404
    operator.user_permissions.add(Permission.objects.get(codename="view_any_thread"))
    assert body_of(client_of(operator).get(url)) == b"hello"
    refused = upload(operator, case, "note.txt", b"hello")
    assert (refused.status_code, refused.json()["code"]) == (403, "not_allowed")


def test_upload_needs_a_csrf_token(user: AbstractUser, case: Case) -> None:
    from django.test import Client

    client = Client(enforce_csrf_checks=True)
    client.force_login(user)
    response = client.post(f"/cases/{case.pk}/files/", {"file": SimpleUploadedFile("a.txt", b"x")})
    assert response.status_code == 403 and not Attachment.objects.exists()


def test_case_takes_only_so_many_files(user: AbstractUser, case: Case) -> None:
    row = {"owner": user, "case": case, "size": 1, "original_name": "a", "media_type": "text/plain", "status": "failed"}
    Attachment.objects.bulk_create(Attachment(**row) for _ in range(MAX_FILES))
    assert upload(user, case, "a.txt", b"x").json()["code"] == "too_many_files"


def test_bytes_go_with_the_row(
    user: AbstractUser, case: Case, media: Path, django_capture_on_commit_callbacks: Any
) -> None:
    upload(user, case, "note.txt", b"hello")
    stored = media / Attachment.objects.get().file.name
    assert stored.exists()
    with django_capture_on_commit_callbacks(execute=True):
        Attachment.objects.get().delete()
    assert not stored.exists()
