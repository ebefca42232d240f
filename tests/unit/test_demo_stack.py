"""What the demo's commands find out before they start anything."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from supportdemo import servers
from supportdemo.stack import CannotStart, address, choose_port, redis_for_demo

pytestmark = pytest.mark.once


def test_a_taken_port_gives_way_to_the_next_free_one():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert port < choose_port("127.0.0.1", port) < port + 50


def test_a_port_that_does_not_exist_is_a_sentence():
    with pytest.raises(CannotStart, match="Choose another with --port"):
        choose_port("127.0.0.1", 70_000)


@pytest.mark.parametrize(
    "host, url",
    [("127.0.0.1", "http://127.0.0.1:8000/"), ("0.0.0.0", "http://127.0.0.1:8000/"), ("::1", "http://[::1]:8000/")],
)
def test_the_address_is_one_that_a_browser_opens(host, url):
    assert address(host, 8000) == url


def test_a_given_redis_that_does_not_answer_is_not_replaced_in_silence(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{servers.free_port()}/0")
    with pytest.raises(CannotStart, match="unset REDIS_URL"), redis_for_demo(tmp_path):
        pass


def test_without_any_redis_one_sentence_says_what_to_install(monkeypatch, tmp_path: Path):
    monkeypatch.delenv("REDIS_URL")
    monkeypatch.setattr(servers.shutil, "which", lambda name: None)
    monkeypatch.setattr(servers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(servers.RedisMissing, match=r"^[^.]*install Redis or Valkey[^.]*\.$"), redis_for_demo(tmp_path):
        pass
