"""What may befall any reply on its way, and answers that are no model's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from agentcore.testing.faults.http_model import Pause, Reply

HTML = b"<!doctype html><title>Sign in</title><h1>Sign in to continue</h1>"


def body(reply: Reply) -> bytes:
    """Return all that a reply sends."""
    return b"".join(piece for piece in reply.pieces if isinstance(piece, bytes))


def seams(reply: Reply) -> list[int]:
    """Return the places between the frames of a reply, in bytes, from before the first to before the last."""
    places = [0]
    for piece in reply.pieces:
        places.append(places[-1] + (len(piece) if isinstance(piece, bytes) else 0))
    return places[:-1]


def cuts(reply: Reply, *, politely: bool = False) -> Iterator[Reply]:
    """Yield the reply cut at each of its seams."""
    for place in seams(reply):
        yield reply.cut(place, politely=politely)


def waits(reply: Reply, ping: bytes, times: int, seconds: float, after: int = 0) -> Reply:
    """Return a reply with so many pings in it, after so many of its frames and each with a pause after it."""
    pings: list[bytes | Pause] = [ping, Pause(seconds)] * times
    frames = list(reply.pieces)
    return replace(reply, pieces=[*frames[:after], *pings, *frames[after:]])


def stays(reply: Reply, after: int) -> Reply:
    """Return a reply that sends so many frames and then nothing, for as long as the client stays."""
    return replace(reply, pieces=[*list(reply.pieces)[:after], Pause()])


def broken(reply: Reply, after: int, frame: bytes) -> Reply:
    """Return a reply that ends with `frame`, after so many of its own."""
    return replace(reply, pieces=[*list(reply.pieces)[:after], frame])


def html(status: int = 200) -> Reply:
    """Return the page of a proxy or of a wrong address."""
    return Reply([HTML], status, {"Content-Type": "text/html; charset=utf-8"})


def silence() -> Reply:
    """Return an event stream without an event."""
    return Reply()
