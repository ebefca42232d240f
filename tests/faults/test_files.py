"""A file store that is full, or has lost or changed a file: said so, and never other content in its place."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import AbstractUser
from django.core.files.uploadedfile import SimpleUploadedFile

from supportdemo.files.models import Attachment
from tests.integration.demo import body_of, client_of, open_case

pytestmark = [pytest.mark.django_db, pytest.mark.once]

NOTE = b"The parcel is late.\n" * 3000


@pytest.fixture
def media(settings: LazySettings, tmp_path: Path) -> Path:
    settings.MEDIA_ROOT = tmp_path / "media"
    settings.MEDIA_ROOT.mkdir()
    return settings.MEDIA_ROOT


def upload(user: AbstractUser, name: str = "note.txt", data: bytes = NOTE) -> Any:
    case = open_case(user)
    return client_of(user).post(f"/cases/{case.pk}/files/", {"file": SimpleUploadedFile(name, data)})


def stored(media: Path) -> list[Path]:
    return [path for path in media.rglob("*") if path.is_file()]


@contextmanager
def fill_up(media: Path) -> Iterator[None]:
    """A file system of its own, smaller than the file; only root may mount one."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", str(media)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(media)], check=True)


@contextmanager
def take_the_place(media: Path) -> Iterator[None]:
    """A file stands where the directory of attachments would be made."""
    (media / "attachments").write_text("in the way")
    yield
    (media / "attachments").unlink()


TROUBLES = [take_the_place, *([fill_up] if os.geteuid() == 0 else [])]


@pytest.mark.covers("fault:O7")
@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_store_that_takes_no_more_refuses_the_upload_and_keeps_nothing_of_it(
    user: AbstractUser, media: Path, trouble: Any
) -> None:
    with trouble(media):
        kept = stored(media)
        answer = upload(user)
        assert (answer.status_code, answer.json()["code"]) == (503, "file_store")
        assert int(answer.headers["Retry-After"]) > 0 and str(media) not in answer.content.decode()
        assert not Attachment.objects.exists() and stored(media) == kept
    assert upload(user).status_code == 201  # without a restart


@pytest.mark.covers("fault:O7")
@pytest.mark.parametrize("flip", [0, len(NOTE) // 2, len(NOTE) - 1])
def test_a_file_of_which_a_bit_has_turned_is_not_given_out(user: AbstractUser, media: Path, flip: int) -> None:
    url = upload(user).json()["url"]
    (path,) = stored(media)
    assert body_of(client_of(user).get(url)) == NOTE
    changed = bytearray(NOTE)
    changed[flip] ^= 1
    path.write_bytes(changed)
    answer = client_of(user).get(url)
    assert (answer.status_code, answer.json()["code"]) == (410, "file_damaged")


@pytest.mark.covers("fault:O7")
@pytest.mark.parametrize("longer", [b"", b"more"])
def test_a_file_that_was_cut_off_or_has_grown_is_not_given_out(user: AbstractUser, media: Path, longer: bytes) -> None:
    url = upload(user).json()["url"]
    (path,) = stored(media)
    path.write_bytes(NOTE + longer if longer else NOTE[:-1])
    assert client_of(user).get(url).json()["code"] == "file_damaged"


@pytest.mark.covers("fault:O7")
def test_a_file_that_is_gone_is_said_to_be(user: AbstractUser, media: Path) -> None:
    url = upload(user).json()["url"]
    (path,) = stored(media)
    path.unlink()
    answer = client_of(user).get(url)
    assert (answer.status_code, answer.json()["code"]) == (410, "file_missing")
