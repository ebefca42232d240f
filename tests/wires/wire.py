"""What all wires have in common: a script says what the model does, and each wire how that looks on the line."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from agentcore.testing.faults.http_model import Check, HttpModel, Reply, Script, Seen

from .parts import Counts, Fault, Finish, FunctionCall, Part, Text, Thought

JSON = "application/json"


class Complaint(Exception):
    """What a server finds wrong with a request; `status` and `code` where they are not those of an invalid one."""

    def __init__(self, message: str, status: int = 400, code: str | None = None) -> None:
        super().__init__(message)
        self.message, self.status, self.code = message, status, code


class Wire(ABC):
    """One provider's API: what it answers, what it refuses, and how."""

    name: str
    model: str
    key = "key-of-a-test"
    signs = True
    """Whether thoughts have signatures that must come back."""
    ping: bytes = b": keep-alive\n\n"
    """What the provider sends to show that the connection lives; empty where it sends nothing of the kind."""

    def serve(self, *replies: Reply, script: Script | None = None, also: Iterable[Check] = ()) -> HttpModel:
        """Return a server of this wire, which refuses what the real one refuses, and what `also` does."""
        return HttpModel(*replies, script=script, check=lambda seen: self._refusal(seen, also))

    def base(self, server: HttpModel) -> str:
        """Return the base URL that an SDK for this wire is given."""
        return server.url

    def says(self, *texts: str, finish: Finish | None = Finish.STOP, counts: Counts | None = None) -> Reply:
        """Return an answer in these pieces of text; without a `finish`, it breaks off politely."""
        return self.answer(Text(texts), finish=finish, counts=counts)

    def thinks(
        self, text: str, signature: str | None = None, *then: Part, finish: Finish | None = Finish.STOP
    ) -> Reply:
        """Return an answer that begins with a thought."""
        return self.answer(Thought(text, signature), *then, finish=finish)

    def asks(self, *calls: FunctionCall, text: str = "", finish: Finish | None = Finish.CALLS) -> Reply:
        """Return a request to run tools, after some text if there is any."""
        return self.answer(*([Text((text,))] if text else []), *calls, finish=finish)

    def answer(self, *parts: Part, finish: Finish | None = Finish.STOP, counts: Counts | None = None) -> Reply:
        """Return an answer made of any parts."""
        return Reply(list(self.speak(parts, finish, counts or Counts())))

    def refuses(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> Reply:
        """Return any error: a body as it is, or anything else as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return Reply([data], status, {"Content-Type": JSON, **(headers or {})})

    @abstractmethod
    def speak(self, parts: Sequence[Part], finish: Finish | None, counts: Counts) -> Iterator[bytes]:
        """Yield the frames of an answer."""

    @abstractmethod
    def fails(self, fault: Fault, wait: float | None = None) -> Reply:
        """Return the provider's own error before the stream; `wait` is how long it asks to wait, in seconds."""

    @abstractmethod
    def breaks(self, fault: Fault) -> bytes:
        """Return the frame by which the provider tells of a fault inside a stream."""

    @abstractmethod
    def complain(self, complaint: Complaint) -> Reply:
        """Return a complaint in the provider's form."""

    @abstractmethod
    def examine(self, seen: Seen) -> None:
        """Raise a Complaint where the real server would refuse the request."""

    def seal(self, signature: str) -> str:
        """Return what the wire sends for a signature; a request that holds another is refused where there is a seal."""
        return f"{self.name}.{signature}"

    def sealed(self, seal: str) -> bool:
        """Return whether this server can have given the seal."""
        return seal.startswith(f"{self.name}.")

    def _refusal(self, seen: Seen, also: Iterable[Check]) -> Reply | None:
        try:
            self.examine(seen)
        except Complaint as complaint:
            return self.complain(complaint)
        return next((refusal for check in also if (refusal := check(seen)) is not None), None)
