"""The demo's outermost guards: the body limit, the pinned root path, the environment it reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse

from supportdemo.edge import FixRootPath, LimitBody
from supportdemo.environment import checkout_secret, database, flag
from supportdemo.middleware import POLICY, content_security_policy


async def post(app: Any, *body: bytes, headers: list[tuple[bytes, bytes]] | None = None) -> list[dict[str, Any]]:
    """Send a request in pieces and return what was answered."""
    sent: list[dict[str, Any]] = []
    pieces = [{"type": "http.request", "body": piece, "more_body": True} for piece in body]
    pieces.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> dict[str, Any]:
        return pieces.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app({"type": "http", "path": "/", "root_path": "/pub", "headers": headers or []}, receive, send)
    return sent


async def echo_length(scope: Any, receive: Any, send: Any) -> None:
    """An application that reads its body as Django does: a disconnect ends it without an answer."""
    length, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        length += len(message["body"])
        more = message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(length).encode()})


async def test_body_within_the_limit_passes() -> None:
    answer = await post(LimitBody(echo_length, limit=10), b"12345", b"67890")
    assert answer[-1]["body"] == b"10"


@pytest.mark.covers("threat:T21")
@pytest.mark.parametrize("length", [b"11", b"99999999999", b"9" * 9999])
async def test_declared_length_over_the_limit_is_refused_unread(length: bytes) -> None:
    async def never(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("the application was asked")

    answer = await post(LimitBody(never, limit=10), headers=[(b"content-length", length)])
    assert answer[0]["status"] == 413 and json.loads(answer[1]["body"])["code"] == "body_too_large"


@pytest.mark.covers("fc:E5")
@pytest.mark.parametrize("name, value, status", [
    (b"content-length", b"-1", 400), (b"Content-Length", b"x", 400), (b"content-length", b"5,5", 400),
    (b"content-type", b"application/x-www-form-urlencoded; charset=hex", 415),
    (b"Content-Type", b"a/b;CHARSET=\"HEX\"", 415), (b"content-type", b"a/b; charset=", 415),
    (b"content-type", b"multipart/form-data; boundary=x; charset=utf-16", 415),
    (b"content-type", b"a/b; charset*=utf-8''utf%00", 415),
])  # fmt: skip
async def test_what_django_cannot_read_is_a_problem_before_it_is_asked(name: bytes, value: bytes, status: int) -> None:
    async def never(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("the application was asked")

    answer = await post(LimitBody(never), headers=[(name, value)])
    body = json.loads(answer[1]["body"])
    assert answer[0]["status"] == body["status"] == status and body["code"] and body["id"] and body["detail"]


@pytest.mark.parametrize("value", [b"text/html", b"a/b; charset=UTF-8", b'a/b; charset="utf-8"; boundary=xcharset=hex'])
async def test_what_django_can_read_is_passed_on(value: bytes) -> None:
    assert (await post(LimitBody(echo_length), b"1", headers=[(b"content-type", value)]))[-1]["body"] == b"1"


@pytest.mark.covers("threat:T21")
async def test_undeclared_body_is_cut_off_at_the_limit() -> None:
    answer = await post(LimitBody(echo_length, limit=10), b"12345", b"67890", b"1", b"never read")
    assert answer[0]["status"] == 413


@pytest.mark.covers("threat:T30")
async def test_client_cannot_choose_the_root_path() -> None:
    seen: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.update(scope)

    await post(FixRootPath(app), headers=[(b"Daphne-Root-Path", b"/pub"), (b"host", b"localhost")])
    assert seen["root_path"] == "" and seen["headers"] == [(b"host", b"localhost")]


def test_policy_allows_nothing_inline_and_keeps_a_stricter_one() -> None:
    strict = HttpResponse(headers={"Content-Security-Policy": "sandbox"})
    assert content_security_policy(lambda request: strict)(HttpRequest())["Content-Security-Policy"] == "sandbox"
    assert content_security_policy(lambda request: HttpResponse())(HttpRequest())["Content-Security-Policy"] == POLICY
    assert "unsafe" not in POLICY and "default-src 'self'" in POLICY


async def test_policy_stands_on_asynchronous_responses_too() -> None:
    async def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse()

    assert (await content_security_policy(view)(HttpRequest()))["Content-Security-Policy"] == POLICY


def test_secret_is_made_once_and_kept(tmp_path: Path) -> None:
    first = checkout_secret(tmp_path / "secret")
    assert len(first) > 50 and checkout_secret(tmp_path / "secret") == first
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]
    assert (tmp_path / "secret").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "url, expected",
    [
        ("sqlite:///demo.sqlite3", {"NAME": "demo.sqlite3"}),
        ("sqlite:////tmp/a%20b.sqlite3", {"NAME": "/tmp/a b.sqlite3"}),
        (
            "postgres://me:p%40ss@db.example:6543/shop",
            {"NAME": "shop", "USER": "me", "PASSWORD": "p@ss", "HOST": "db.example", "PORT": "6543"},
        ),
        ("postgresql://me@/shop?host=/run/pg", {"NAME": "shop", "USER": "me", "HOST": "/run/pg", "PORT": ""}),
    ],
)
def test_database_address_is_understood(url: str, expected: dict[str, str]) -> None:
    assert expected.items() <= database(url).items()


def test_unknown_database_address_names_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="mysql"):
        database("mysql://x")


@pytest.mark.parametrize("value, expected", [("1", True), ("yes", True), ("0", False), ("False", False), ("", False)])
def test_flags_read_as_people_write_them(monkeypatch: pytest.MonkeyPatch, value: str, expected: bool) -> None:
    monkeypatch.setenv("DEMO_FLAG", value)
    assert flag("DEMO_FLAG", default=not expected) is expected
