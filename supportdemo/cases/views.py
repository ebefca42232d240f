"""The desk's pages: the list, a new case, one case, and sending to it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.db.models import Case as Choose
from django.db.models import QuerySet, Value, When
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_http_methods, require_safe

from supportdemo.accounts.limits import RateLimit
from supportdemo.problems import json_view
from supportdemo.providers import choose_model, is_offline, label_of

from .access import case_to_read, case_to_write, may_decide, may_operate
from .agents import support
from .billing import charges
from .forms import CaseForm, read_message
from .models import STAFF, WAITING, Case
from .sending import send

RECENT = 50
OPENINGS = RateLimit("open", times=20, seconds=60)


def recent_cases(user: Any) -> QuerySet[Case]:
    """Return the newest cases `user` may see; those that wait for a decision first, for whoever decides."""
    cases: QuerySet[Case] = Case.objects.visible_to(user).with_status().select_related("customer")
    if may_decide(user):
        waiting = Choose(When(run_status__in=(WAITING, STAFF), then=Value(0)), default=Value(1))
        cases = cases.order_by(waiting, "-created_at", "-id")
    return cases[:RECENT]


@login_required
@require_safe
def case_list(request: HttpRequest) -> HttpResponse:
    """Show the user's cases, or all of them to an operator."""
    return render(request, "cases/list.html", {"cases": recent_cases(request.user)})


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def new_case(request: HttpRequest) -> HttpResponse:
    """Open a case: a thread and its subject together."""
    form = CaseForm(request.POST or None)
    status = 200
    if request.method == "POST" and not form.is_valid():
        status = 422
    elif request.method == "POST" and (wait := OPENINGS.take(str(request.user.pk))) is not None:
        form.add_error(None, f"You have opened many cases. Try again in {wait} seconds.")
        status = 429
    elif request.method == "POST":
        case = form.save(commit=False)
        with transaction.atomic():
            case.customer = request.user
            case.thread = support.threads.create(user=request.user, title=case.subject)
            case.save()
        return redirect(case)
    return render(request, "cases/new.html", {"form": form}, status=status)


@login_required
@require_safe
@ensure_csrf_cookie
def case_detail(request: HttpRequest, case_id: UUID) -> HttpResponse:
    """Show one case; its conversation comes over the websocket."""
    case = case_to_read(request.user, case_id)
    model = choose_model()
    decides = may_decide(request.user)
    context = {
        "case": case,
        "cases": recent_cases(request.user),
        "thread_id": str(case.thread_id),
        "model_label": label_of(model),
        "offline": is_offline(model),
        "can_decide": decides,
        "can_operate": may_operate(request.user),
        "can_write": case.customer_id == request.user.pk,
        "attachments": case.attachments.all(),
        "charges": charges(case) if decides else [],
    }
    return render(request, "cases/detail.html", context)


@json_view
def post_message(request: HttpRequest, case_id: UUID) -> HttpResponseBase:
    """Send a message, as JSON or as a form: 201 for a new run, 200 for a key that has its run already."""
    case = case_to_write(request.user, case_id)
    sent = read_message(request)
    outcome = send(case, request.user, sent.message)
    if sent.plain_form:
        return redirect(reverse("cases:detail", args=[case.pk]))
    run, message = outcome.run, outcome.run.prompt
    body = {
        "run": {
            "id": str(run.pk),
            "thread": str(run.thread_id),
            "number": run.number,
            "order": run.order,
            "agent": run.agent,
            "agent_version": run.agent_version,
            "status": str(run.status),
            "created_at": run.created_at,
        },
        "message": message.to_json() if message else None,
    }
    return JsonResponse(body, status=201 if outcome.created else 200)
