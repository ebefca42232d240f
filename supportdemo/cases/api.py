"""agentcore's two addresses that start runs, kept to the desk's quota; all else there is agentcore's."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpRequest, HttpResponseBase
from django.urls import resolve
from django.views.decorators.csrf import csrf_exempt

from supportdemo.problems import Problem

from . import sending
from .models import Case


@csrf_exempt  # agentcore checks the token itself, and answers with a problem
def thread_runs(request: HttpRequest, thread_id: str) -> HttpResponseBase:
    """List a thread's runs; a message to a case is refused here, since the case's own address counts it."""
    if request.method == "POST" and Case.objects.visible_to(request.user).filter(thread=_uuid(thread_id)).exists():
        return Problem(403, "send_through_the_case", "Send this message on the page of its case.").response()
    return _agentcore(request, f"/threads/{thread_id}/runs")


@csrf_exempt
def retry_run(request: HttpRequest, run_id: str) -> HttpResponseBase:
    """Retry a run of a case: one more message as far as the quota goes, unless it is refused."""
    path = f"/runs/{run_id}/retry"
    mine = Case.objects.visible_to(request.user).filter(thread__runs=_uuid(run_id))
    if request.method != "POST" or not mine.exists():
        return _agentcore(request, path)
    subject = str(request.user.pk)
    wait = sending.SENDS.take(subject)
    if wait is not None:
        return sending.too_many(wait).response()
    response = _agentcore(request, path)
    if response.status_code != 201:
        sending.SENDS.give_back(subject)
    return response


def _uuid(text: str) -> UUID | None:
    """Read an id in every spelling that agentcore takes; None, which no row has, for what is none."""
    try:
        return UUID(text)
    except ValueError:
        return None


def _agentcore(request: HttpRequest, path: str) -> HttpResponseBase:
    match = resolve(path, "agentcore.urls")
    response: HttpResponseBase = match.func(request, *match.args, **match.kwargs)
    return response
