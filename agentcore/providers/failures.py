"""What a model's own code raised: a connection that failed and may hold the next time, or a mistake in the program.

A model that knows raises `ModelError`. Others let through what their library raises; no
library is imported to know its exceptions, they are known by their names.
"""

from __future__ import annotations

import asyncio
import errno
import http.client
import socket
import ssl
from collections.abc import Iterator
from urllib.error import HTTPError, URLError

from ..exceptions import ModelError
from ..values.functions import kind_of

__all__ = ["failure_of"]

DEEPEST = 10

_BROKEN: tuple[type[BaseException], ...] = (
    ConnectionError,
    ssl.SSLError,
    socket.gaierror,
    http.client.IncompleteRead,
    http.client.BadStatusLine,
    asyncio.IncompleteReadError,
)
_ERRNOS = frozenset(
    getattr(errno, name)
    for name in (
        "ECONNRESET ECONNREFUSED ECONNABORTED EPIPE ENETUNREACH ENETDOWN ENETRESET EHOSTUNREACH EHOSTDOWN ENOTCONN "
        "ESHUTDOWN ETIMEDOUT"
    ).split()
    if hasattr(errno, name)
)
_TIMEOUTS = frozenset(
    {
        "httpx.TimeoutException",
        "httpx2.TimeoutException",
        "httpcore.TimeoutException",
        "openai.APITimeoutError",
        "anthropic.APITimeoutError",
        "requests.Timeout",
        "urllib3.TimeoutError",
        "aiohttp.ServerTimeoutError",
        "botocore.ConnectTimeoutError",
        "botocore.ReadTimeoutError",
    }
)
_CONNECTIONS = frozenset(
    {
        "httpx.TransportError",
        "httpx2.TransportError",
        "httpcore.NetworkError",
        "httpcore.RemoteProtocolError",
        "openai.APIConnectionError",
        "anthropic.APIConnectionError",
        "requests.ConnectionError",
        "requests.ChunkedEncodingError",
        "urllib3.ProtocolError",
        "urllib3.NewConnectionError",
        "aiohttp.ClientConnectionError",
        "aiohttp.ClientPayloadError",
        "botocore.HTTPClientError",
        "websockets.ConnectionClosed",
    }
)
# Also transport errors to their library, and the same at every try: an address that is none.
_MISTAKES = frozenset(
    f"{library}.{name}" for library in ("httpx", "httpx2") for name in ("UnsupportedProtocol", "LocalProtocolError")
)


def failure_of(error: BaseException) -> ModelError:
    """Return the model's failure that an exception stands for; its `__cause__` counts as well as itself."""
    said = f"The model adapter raised {kind_of(error)}: {_words_of(error)}"
    for one in _causes(error):
        code = _code(one)
        if code is not None:
            return ModelError(said, code=code)
    return ModelError(said, code="model_failed", retryable=False)


def _words_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "it cannot say why"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and what it was raised from; of a group of one, that one too."""
    found: BaseException | None = error
    for _ in range(DEEPEST):
        if found is None:
            return
        yield found
        alone = found.exceptions if isinstance(found, BaseExceptionGroup) and len(found.exceptions) == 1 else ()
        found = alone[0] if alone else found.__cause__


def _code(error: BaseException) -> str | None:
    names = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(error).__mro__}
    if names & _MISTAKES or isinstance(error, HTTPError):
        return None
    if isinstance(error, TimeoutError) or names & _TIMEOUTS:
        return "timeout"
    if isinstance(error, URLError) and isinstance(error.reason, BaseException):
        return _code(error.reason)
    if isinstance(error, _BROKEN) or names & _CONNECTIONS:
        return "network"
    return "network" if isinstance(error, OSError) and error.errno in _ERRNOS else None
