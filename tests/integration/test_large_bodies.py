"""Bodies larger than the demo takes, on the servers it meets: refused, and kept neither in memory nor on disk."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from django.contrib.auth.models import AbstractUser

from supportdemo.edge import MAX_BODY, MAX_READ
from supportdemo.files.models import Attachment
from supportdemo.files.sniff import MAX_BYTES
from tests.integration.demo import open_case
from tests.integration.sockets import log_in
from tests.integration.test_socket_servers import serve
from tests.stack import Stack, Web

pytestmark = [pytest.mark.once, pytest.mark.django_db(transaction=True)]
SERVERS = ["demo", "uvicorn"]
FRAMINGS = ["declared", "chunked"]
LARGE = 48 * 1024 * 1024
HUGE = 400 * 1024 * 1024
KEPT = 5 * MAX_BODY
"""What a server may take for a body of which it takes MAX_BODY: copies of it, and room for the rest of a request."""
BLOCK = b"x" * 65536
MULTIPART = "multipart/form-data; boundary=x"
PART = b'--x\r\nContent-Disposition: form-data; name="file"; filename="note.txt"\r\n\r\n'
END = b"\r\n--x--\r\n"


@pytest.fixture
def headers(user: AbstractUser) -> dict[str, str]:
    token = "a" * 32
    cookies = f"supportdemo_session={log_in(user)}; supportdemo_csrf={token}"
    return {"Cookie": cookies, "X-CSRFToken": token, "Accept": "application/json"}


def start(web: Web, path: str, **headers: str) -> socket.socket:
    """A connection on which the head of a POST has been sent."""
    host = urlsplit(web.url)
    lines = [f"POST {path} HTTP/1.1", f"Host: {host.netloc}", *(f"{name}: {value}" for name, value in headers.items())]
    wire = socket.create_connection((host.hostname, host.port), timeout=60)
    wire.sendall("\r\n".join([*lines, "", ""]).encode())
    return wire


def form(size: int) -> Iterator[bytes]:
    """A multipart form with a file, of this size in all."""
    yield PART
    left = size - len(PART) - len(END)
    for block in range(0, left, len(BLOCK)):
        yield BLOCK[: left - block]
    yield END


def answer(wire: socket.socket) -> tuple[int, dict[str, Any]]:
    """The status and the JSON of the next answer."""
    with wire.makefile("rb") as reader:
        head = b"".join(iter(reader.readline, b"\r\n"))
        length = re.search(rb"content-length: (\d+)", head.lower())
        return int(head.split()[1]), json.loads(reader.read(int(length[1]) if length else -1))


def post(
    web: Web, framing: str, size: int, path: str = "/accounts/login/", **headers: str
) -> tuple[int, dict[str, Any]]:
    """Send a form of this size whole, and give what is answered."""
    chunked = framing == "chunked"
    length = {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(size)}
    with start(web, path, **{"Content-Type": MULTIPART, "Accept": "application/json", **headers, **length}) as wire:
        for piece in form(size):
            wire.sendall(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        if chunked:
            wire.sendall(b"0\r\n\r\n")
        return answer(wire)


def taken(web: Web) -> tuple[int, int]:
    """The most memory that it ever had, and what it has written to files, in bytes."""
    peak = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{web.pid}/status").read_text())
    assert peak is not None
    return int(peak[1]) * 1024, psutil.Process(web.pid).io_counters().write_chars


def assert_little_more(web: Web, before: tuple[int, int]) -> None:
    grown = [now - then for now, then in zip(taken(web), before, strict=True)]
    assert max(grown) < KEPT < LARGE / 2, grown


def warmed_up(web: Web) -> tuple[int, int]:
    """What it has taken once a refused request has loaded all that one needs."""
    assert post(web, "declared", MAX_BODY + 1)[0] == 413
    return taken(web)


@pytest.mark.covers("fc:E3")
@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("server", SERVERS)
def test_a_large_body_is_refused_and_not_kept(server: str, framing: str, stack: Stack, headers: dict[str, str]) -> None:
    web = serve(stack, server)
    before = warmed_up(web)
    for who in ({}, headers):
        for kind in (MULTIPART, "application/octet-stream", "application/x-www-form-urlencoded"):
            status, problem = post(web, framing, LARGE, **{**who, "Content-Type": kind})
            assert (status, problem["code"]) == (413, "body_too_large"), (kind, who)
            assert "4 MB" in problem["detail"] and problem["id"]
            assert_little_more(web, before)
            before = taken(web)


@pytest.mark.covers("fc:E3")
@pytest.mark.parametrize("server", SERVERS)
def test_a_huge_body_is_refused_by_its_length_before_it_comes(server: str, stack: Stack) -> None:
    web = serve(stack, server)
    before = warmed_up(web)
    with start(web, "/accounts/login/", **{"Content-Type": MULTIPART, "Content-Length": str(HUGE)}) as wire:
        status, problem = answer(wire)
    assert (status, problem["code"]) == (413, "body_too_large")
    assert_little_more(web, before)


@pytest.mark.covers("fc:E3")
def test_a_body_without_end_is_cut_off(stack: Stack) -> None:
    web = serve(stack, "demo")
    before = warmed_up(web)
    sent = 0
    with start(web, "/accounts/login/", **{"Transfer-Encoding": "chunked"}) as wire, pytest.raises(ConnectionError):
        while sent < HUGE:
            wire.sendall(b"10000\r\n%b\r\n" % BLOCK)
            sent += len(BLOCK)
    assert MAX_READ <= sent < HUGE
    assert_little_more(web, before)


@pytest.mark.covers("fc:E3")
@pytest.mark.parametrize("server", SERVERS)
def test_what_is_allowed_passes(
    server: str, stack: Stack, user: AbstractUser, headers: dict[str, str], tmp_path: Path
) -> None:
    case = open_case(user)
    web = serve(stack, server, DEMO_DATA_DIR=str(tmp_path))
    path = f"/cases/{case.pk}/files/"
    status, stored = post(web, "declared", len(PART) + MAX_BYTES + len(END), path, **headers)
    assert (status, stored.get("size")) == (201, MAX_BYTES), stored
    assert Attachment.objects.get().size == MAX_BYTES
    for framing in FRAMINGS:  # the largest body of all reaches Django, which refuses it for its lack of a token
        assert post(web, framing, MAX_BODY, path)[0] == 403
        assert post(web, framing, MAX_BODY + 1, path)[0] == 413
