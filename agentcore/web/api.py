"""The JSON API: reads are GET, commands are POST, with the CSRF token where the session says who calls."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any
from uuid import UUID

from django.http import HttpRequest
from ninja import NinjaAPI, Status
from ninja.renderers import JSONRenderer
from pydantic import Field

from ..declaration import registry
from ..services import approvals, events, runs, sending, threads, turns
from ..services.approvals import Decision
from .auth import authenticate
from .problems import install
from .requests import StrictParser
from .schemas import (
    ApprovalOut,
    ApprovalsOut,
    CancelIn,
    DecideIn,
    EventsOut,
    MessageOut,
    MessagesOut,
    RetryIn,
    RunOut,
    RunsOut,
    SendIn,
    ThreadOut,
)

PageSize = Annotated[int, Field(ge=1, le=200)]
LogPageSize = Annotated[int, Field(ge=1, le=1000)]
Position = Annotated[int, Field(ge=-1, lt=2**63)]


class Renderer(JSONRenderer):
    """Write answers in UTF-8, as events are: an escaped character takes up to six times as many bytes."""

    json_dumps_params: Mapping[str, Any] = MappingProxyType({"ensure_ascii": False})


api = NinjaAPI(
    title="agentcore",
    version="1",
    auth=authenticate,
    parser=StrictParser(),
    renderer=Renderer(),
    urls_namespace="agentcore",
    docs_url=None,  # ninja's page would load its assets from elsewhere; the document itself is at openapi.json
    description="Threads, runs, approvals and events. What is not yours answers as if it did not exist.",
)
install(api)


@api.get("threads/{thread_id}", response=ThreadOut)
def get_thread(request: HttpRequest, thread_id: UUID) -> ThreadOut:
    """Return a thread."""
    return ThreadOut.of(threads.get(thread_id, user=request.user))


@api.get("threads/{thread_id}/messages", response=MessagesOut)
def list_messages(
    request: HttpRequest, thread_id: UUID, before: str | None = None, limit: PageSize = 50
) -> MessagesOut:
    """Return the newest messages, oldest first, and their runs; `before` pages back."""
    page = turns.list_(thread_id, user=request.user, before=before, limit=limit)
    said = [MessageOut.of(item) for item in page.messages]
    return MessagesOut(messages=said, runs=RunOut.all(page.runs, request.user), before=page.before)


@api.get("threads/{thread_id}/runs", response=RunsOut)
def list_runs(request: HttpRequest, thread_id: UUID, limit: PageSize = 50) -> RunsOut:
    """Return the newest runs of a thread."""
    return RunsOut(runs=RunOut.all(runs.list_(thread_id, user=request.user)[:limit], request.user))


@api.post("threads/{thread_id}/runs", response={200: RunOut, 201: RunOut})
def send(request: HttpRequest, thread_id: UUID, body: SendIn) -> Any:
    """Save a message and start a run: 201, or 200 where the same key made it before."""
    started = sending.start_once(registry.get(body.agent), thread_id, body.text, user=request.user, key=body.key)
    return Status(201 if started.created else 200, RunOut.of(started.run, request.user))


@api.get("runs/{run_id}", response=RunOut)
def get_run(request: HttpRequest, run_id: UUID) -> RunOut:
    """Return a run."""
    return RunOut.of(runs.get(run_id, user=request.user), request.user)


@api.get("runs/{run_id}/events", response=EventsOut)
def read_events(request: HttpRequest, run_id: UUID, after: Position = -1, limit: LogPageSize = 500) -> EventsOut:
    """Return a page of a run's log."""
    page = events.read(run_id, user=request.user, after=after, limit=limit)
    return EventsOut(events=page.events, next_after=page.next_after, done=page.done)


@api.post("runs/{run_id}/cancel", response=RunOut)
def cancel(request: HttpRequest, run_id: UUID, body: CancelIn) -> RunOut:
    """Cancel a run; a driven one ends as soon as its worker sees it."""
    return RunOut.of(runs.cancel(run_id, user=request.user, reason=body.reason), request.user)


@api.post("runs/{run_id}/retry", response={201: RunOut})
def retry(request: HttpRequest, run_id: UUID, body: RetryIn | None = None) -> Any:
    """Start a new run for the prompt of one that failed or was canceled."""
    return Status(201, RunOut.of(sending.retry(run_id, user=request.user), request.user))


@api.get("approvals", response=ApprovalsOut)
def list_approvals(request: HttpRequest, limit: PageSize = 100) -> ApprovalsOut:
    """Return the approvals somebody still owes, oldest first."""
    rows = approvals.pending(user=request.user)[:limit]
    return ApprovalsOut(approvals=[ApprovalOut.of(row) for row in rows])


@api.post("approvals/decide", response=ApprovalsOut)
def decide(request: HttpRequest, body: DecideIn) -> ApprovalsOut:
    """Take decisions, all or none; each must name the digest its decider was shown."""
    decisions = [
        Decision(item.approval, item.verdict, item.digest, item.reason, item.edited_arguments)
        for item in body.decisions
    ]
    rows = approvals.decide(decisions, user=request.user)
    return ApprovalsOut(approvals=[ApprovalOut.of(row) for row in rows])
