"""The fault proxy: passes everything on, and fails exactly as it is told."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

from agentcore.testing import FaultProxy

pytestmark = pytest.mark.once

SOON = 10.0


class Echo(socketserver.BaseRequestHandler):
    """Sends back what it is sent."""

    def handle(self) -> None:
        server: Server = self.server  # type: ignore[assignment]
        while data := self.request.recv(4096):
            server.heard += data
            try:
                self.request.sendall(data)
            except OSError:
                return


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    heard = b""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Echo) as running:
        thread = threading.Thread(target=running.serve_forever, args=[0.02], daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def proxy(server: Server) -> Iterator[FaultProxy]:
    with FaultProxy(f"redis://user:pw@127.0.0.1:{server.server_address[1]}/3") as running:
        yield running


@pytest.fixture
def client(proxy: FaultProxy) -> Iterator[socket.socket]:
    with dial(proxy) as connected:
        yield connected


def dial(proxy: FaultProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=SOON)


def say(client: socket.socket, data: bytes) -> bytes:
    """Send and return what comes back, at least one byte of it or the end."""
    client.sendall(data)
    return client.recv(4096)


def test_it_passes_everything_on_by_default(proxy: FaultProxy, client: socket.socket) -> None:
    assert say(client, b"hello") == b"hello"
    assert (proxy.connections, proxy.open, proxy.cuts) == (1, 1, 0)
    assert proxy.url == f"redis://user:pw@127.0.0.1:{proxy.port}/3"


def test_it_passes_on_more_than_any_buffer_holds(client: socket.socket) -> None:
    sent = bytes(range(256)) * 20_000
    threading.Thread(target=client.sendall, args=[sent], daemon=True).start()
    got = b""
    while len(got) < len(sent):
        got += client.recv(65_536)
    assert got == sent


def test_a_delay_holds_back_both_ways(proxy: FaultProxy, client: socket.socket) -> None:
    proxy.delay(0.1)
    begun = time.monotonic()
    assert say(client, b"slowly") == b"slowly"
    assert time.monotonic() - begun >= 0.2


def test_a_partition_that_heals_loses_nothing(proxy: FaultProxy, client: socket.socket, server: Server) -> None:
    proxy.blackhole()
    client.settimeout(0.2)
    with pytest.raises(TimeoutError):
        say(client, b"is anybody there?")
    with dial(proxy):
        pass  # a new connection is taken, too
    assert server.heard == b""
    client.settimeout(SOON)
    proxy.ok()
    assert client.recv(4096) == b"is anybody there?"


def test_a_reset_ends_open_and_new_connections(proxy: FaultProxy, client: socket.socket) -> None:
    assert say(client, b"x") == b"x"
    proxy.reset()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    with pytest.raises(ConnectionResetError), dial(proxy) as second:
        second.recv(1)
    proxy.ok()
    with dial(proxy) as third:
        assert say(third, b"again") == b"again"
    assert proxy.cuts == 2


@pytest.mark.parametrize("size", [0, 1, 3, 10])
def test_a_cut_lets_exactly_so_many_bytes_through(proxy: FaultProxy, size: int) -> None:
    proxy.cut_after(size, times=1)
    with dial(proxy) as client:
        client.sendall(b"0123456789")
        got = b""
        while piece := client.recv(4096):
            got += piece
    assert got == b"0123456789"[:size]
    with dial(proxy) as client:  # that was the one time
        assert say(client, b"0123456789") == b"0123456789"


def test_half_closed_the_server_still_hears(proxy: FaultProxy, client: socket.socket, server: Server) -> None:
    assert say(client, b"first ") == b"first "
    proxy.half_close()
    assert say(client, b"second") == b""
    deadline = time.monotonic() + SOON
    while server.heard != b"first second" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.heard == b"first second"


@pytest.mark.parametrize("pieces", [[b"COMMIT\0"], [b"COM", b"MIT\0"]])
def test_a_commit_reaches_the_server_and_its_answer_does_not_come(
    proxy: FaultProxy, client: socket.socket, server: Server, pieces: list[bytes]
) -> None:
    proxy.cut_on_commit(times=1)
    assert say(client, b"INSERT\0") == b"INSERT\0"
    for piece in pieces[:-1]:
        assert say(client, piece) == piece
    client.sendall(pieces[-1])
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert server.heard == b"INSERT\0COMMIT\0"
    with dial(proxy) as second:
        assert say(second, b"COMMIT\0") == b"COMMIT\0"


def test_a_commit_can_be_lost_on_its_way(proxy: FaultProxy, client: socket.socket, server: Server) -> None:
    proxy.cut_before_commit()
    assert say(client, b"INSERT\0") == b"INSERT\0"
    client.sendall(b"COMMIT\0")
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert (server.heard, proxy.cuts) == (b"INSERT\0", 1)


def test_a_server_that_is_not_there_is_a_reset() -> None:
    # On a busy machine the reset may come before the answer to the dial.
    with FaultProxy("redis://127.0.0.1:9") as proxy, pytest.raises(ConnectionResetError), dial(proxy) as client:
        client.recv(1)


def test_leaving_the_block_ends_what_is_open(server: Server) -> None:
    with FaultProxy(f"http://127.0.0.1:{server.server_address[1]}") as proxy:
        client = dial(proxy)
        assert say(client, b"x") == b"x"
    with client, pytest.raises(ConnectionResetError):
        client.recv(1)
    with pytest.raises(ConnectionRefusedError):
        dial(proxy)
