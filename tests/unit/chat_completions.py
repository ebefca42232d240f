"""A provider on this machine that speaks the chat-completions wire, for tests."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from supportdemo.providers.openai import OpenAIModel

Reply = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Answers each request with the next reply of its server."""

    protocol_version = "HTTP/1.1"
    server: Provider

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append({"path": self.path, "key": self.headers["Authorization"], **body})
        self.server.replies.pop(0)(self)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a test reads `bodies`."""

    def start_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def send_chunk(self, text: str) -> None:
        data = text.encode()
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def send_event(self, data: Any) -> None:
        self.send_chunk(f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n")

    def end_stream(self) -> None:
        self.send_chunk("data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")


class Provider(ThreadingHTTPServer):
    """A provider on a free port, with scripted replies and a memory of what it was sent."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies: list[dict[str, Any]] = []
        self.replies: list[Reply] = []
        self.hung_up = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        self.hung_up.set()  # a client that goes away in the middle is what one test is about

    @property
    def model(self) -> OpenAIModel:
        return OpenAIModel("test-1", api_key="sk-secret", base_url=f"http://127.0.0.1:{self.server_port}/v1")


def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "test-1", "choices": [choice]}


def fragment(index: int, arguments: str, name: str | None = None, call_id: str | None = None) -> dict[str, Any]:
    call: dict[str, Any] = {"index": index, "function": {"arguments": arguments}}
    if name:
        call |= {"id": call_id, "type": "function"}
        call["function"]["name"] = name
    return chunk({"tool_calls": [call]})


def usage(prompt: int, completion: int) -> dict[str, Any]:
    counts = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    return {**chunk({}), "choices": [], "usage": counts}


def stream_of(*events: Any) -> Reply:
    def reply(handler: Handler) -> None:
        handler.start_stream()
        for event in events:
            handler.send_event(event)
        handler.end_stream()

    return reply


def refusal(status: int, error: dict[str, Any], **headers: str) -> Reply:
    def reply(handler: Handler) -> None:
        data = json.dumps({"error": error}).encode()
        handler.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(data)

    return reply
