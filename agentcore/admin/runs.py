"""Runs: the list an operator watches, and the page that shows one run and acts on it."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ..access import get_policy, visible_runs
from ..exceptions import RequestError
from ..models import Run, Thread, ToolCall
from ..services import unverified
from ..states import RunStatus, ToolCallStatus, WaitingReason
from . import eventlog, inspector, operations, show
from .base import AgentFilter, Perform, ReadOnlyAdmin
from .operations import CANCEL, RESUME, RETRY, Operation

MOST_AT_ONCE = 50
BLOCKING = {
    WaitingReason.APPROVAL.value: ToolCallStatus.WAITING,
    WaitingReason.EFFECT_UNVERIFIED.value: ToolCallStatus.EFFECT_UNVERIFIED,
}


class WaitingFilter(admin.SimpleListFilter):
    """Filter by what a run waits for a person to do."""

    title = gettext_lazy("waiting for")
    parameter_name = "waiting"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [
            (WaitingReason.APPROVAL.value, _("an approval")),
            (WaitingReason.EFFECT_UNVERIFIED.value, _("an answer whether a call took effect")),
            (WaitingReason.POISONED.value, _("somebody to resume it")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Run]) -> QuerySet[Run]:
        waiting = queryset.filter(status=RunStatus.WAITING)
        if self.value() == WaitingReason.POISONED:
            return waiting.filter(poisoned_at__isnull=False)
        if self.value() not in BLOCKING:
            return queryset
        open_calls = ToolCall.objects.filter(run=OuterRef("pk"), status=BLOCKING[str(self.value())])
        return waiting.filter(Exists(open_calls), poisoned_at=None)


@admin.register(Run)
class RunAdmin(ReadOnlyAdmin):
    """Runs are started by people and driven by workers; here they are read, cancelled, retried and resumed."""

    visible = staticmethod(visible_runs)

    search_fields = ["id"]
    search_ids = ("pk", "thread_id")
    search_person = "user"
    list_display = [
        "state", "number", "agent", "user", "conversation", "duration", "tokens", "attempt", "created",
    ]  # fmt: skip
    list_display_links = ["state", "number"]
    list_filter = ["status", WaitingFilter, AgentFilter, "created_at"]
    list_select_related = ["thread", "user"]
    date_hierarchy = "created_at"
    ordering = ["-pk"]  # ids sort by time, and have the index
    actions = ["cancel_selected", "retry_selected"]

    def get_urls(self) -> list[URLPattern]:
        commands: dict[str, Perform] = {
            "cancel": lambda request, run: self._operate(request, run, CANCEL),
            "retry": lambda request, run: self._operate(request, run, RETRY),
            "resume": lambda request, run: self._operate(request, run, RESUME),
            "answer": self.answer,
        }
        own = [
            path(f"<uuid:object_id>/{name}/", self.command(perform), name=f"agentcore_run_{name}")
            for name, perform in commands.items()
        ]
        return [*own, *super().get_urls()]

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """Whether cancelling many is offered; the policy still judges each run."""
        return self.may_any(request, lambda run: get_policy().may_cancel(request.user, run))

    def has_retry_permission(self, request: HttpRequest) -> bool:
        """Whether retrying many is offered; the policy still judges each run."""
        return self.may_any(request, lambda run: get_policy().may_retry(request.user, run))

    # --- the list ----------------------------------------------------------------------------------------------------

    @admin.display(description=gettext_lazy("status"), ordering="status")
    def state(self, run: Run) -> str:
        return inspector.state(run)

    @admin.display(description=gettext_lazy("thread"))
    def conversation(self, run: Run) -> str:
        url = show.address(self.admin_site, Thread, "change", run.thread_id)
        return show.link(url, show.preview(str(run.thread), 40))

    @admin.display(description=gettext_lazy("tokens"))
    def tokens(self, run: Run) -> int:
        return run.used.total_tokens

    @admin.display(description=gettext_lazy("created"), ordering="pk")
    def created(self, run: Run) -> Any:
        return run.created_at

    @admin.display(description=gettext_lazy("duration"))
    def duration(self, run: Run) -> str:
        return show.took(run.started_at, run.finished_at)

    # --- one run -----------------------------------------------------------------------------------------------------

    def detail(self, request: HttpRequest, obj: Run) -> HttpResponse:
        run, user = obj, request.user
        refusals = {operation.name: operation.refusal(run, user) for operation in (CANCEL, RESUME, RETRY)}
        return self.page(
            request,
            "run/detail.html",
            _("Run %(number)d of %(agent)s") % {"number": run.number, "agent": run.agent},
            run,
            state=inspector.state(run),
            reasons=run.waiting_reasons(),
            warnings=inspector.warnings(run),
            error=show.brief(run.error_message),
            error_detail=show.brief(run.error_detail),
            cancel_reason=show.visible(run.cancel_reason),
            output="" if run.output is None else show.brief_value(run.output),
            metadata=show.brief_value(run.metadata) if run.metadata else "",
            conversation=self.conversation(run),
            queued_for=show.took(run.created_at, run.started_at) if run.started_at else "",
            duration=self.duration(run),
            retry_of=self._relative(run.retry_of),
            retries=[self._relative(item) for item in run.retries.order_by("number")[:20]],
            links=[(show.visible(link.kind), show.visible(link.external_id)) for link in run.links.all()[:20]],
            may={name: not refusal for name, refusal in refusals.items()},
            # Only what is still allowed is offered; what is refused says why where somebody would look for it.
            retry_refusal=refusals["retry"] if run.terminal and run.status != RunStatus.SUCCEEDED else "",
            repeated_effects=operations.repeated_effects(run) if run.terminal else 0,
            urls={name: self.url(name, run.pk) for name in ("cancel", "retry", "resume", "answer")},
            steps=inspector.steps(run),
            calls=inspector.calls(run, user),
            approvals=inspector.approvals(run, user, self.admin_site),
            log=eventlog.page(run, eventlog.position(request.GET.get("after", ""))),
        )

    def answer(self, request: HttpRequest, run: Run) -> HttpResponse:
        """Say what became of a call that may have happened."""
        posted = request.POST
        call_id, answer = posted.get("call_id", ""), posted.get("answer", "")
        try:
            result = json.loads(posted["result"]) if answer == "happened" and posted.get("result", "").strip() else None
        except (ValueError, RecursionError):
            self.message_user(request, _("The result is not JSON. Nothing was answered."), messages.ERROR)
            return self._back(run)
        try:
            call = unverified.resolve(
                run,
                call_id,
                answer,  # type: ignore[arg-type]
                user=request.user,
                result=result,
                reason=posted.get("reason", ""),
            )
        except RequestError as error:
            self.message_user(request, error.message, messages.ERROR)
            return self._back(run)
        values = {"tool": show.visible(call.name, keep=""), "call": call.call_id, "answer": answer.replace("_", " ")}
        self.log_change(request, run, _("Answered for %(tool)s (%(call)s): %(answer)s.") % values)
        self.message_user(request, _("Answered for %(tool)s: %(answer)s.") % values, messages.SUCCESS)
        return self._back(run)

    def _operate(self, request: HttpRequest, run: Run, operation: Operation) -> HttpResponse:
        self._apply(request, run, operation)
        return self._back(run)

    def _apply(self, request: HttpRequest, run: Run, operation: Operation) -> None:
        outcome = operations.apply(operation, run, request.user, request.POST.get("reason", ""))
        if outcome.note:
            self.log_change(request, run, outcome.note)
        self.message_user(request, outcome.text, outcome.level)

    def _relative(self, run: Run | None) -> str:
        return "" if run is None else show.link(self.url("change", run.pk), str(run))

    def _back(self, run: Run) -> HttpResponse:
        return HttpResponseRedirect(self.url("change", run.pk))

    # --- many runs ---------------------------------------------------------------------------------------------------

    @admin.action(permissions=["cancel"], description=gettext_lazy("Cancel selected runs"))
    def cancel_selected(self, request: HttpRequest, queryset: QuerySet[Run]) -> HttpResponse:
        return self._batch(request, queryset, CANCEL)

    @admin.action(permissions=["retry"], description=gettext_lazy("Retry selected runs"))
    def retry_selected(self, request: HttpRequest, queryset: QuerySet[Run]) -> HttpResponse:
        return self._batch(request, queryset, RETRY)

    def _batch(self, request: HttpRequest, queryset: QuerySet[Run], operation: Operation) -> HttpResponse:
        """Show which runs it concerns, and which not and why; once that page is sent back, do it run by run."""
        chosen = list(queryset.select_related("thread", "user")[:MOST_AT_ONCE])
        if "confirmed" in request.POST:
            for run in chosen:
                self._apply(request, run, operation)
            return HttpResponseRedirect(self.url("changelist"))
        judged = [(run, operation.refusal(run, request.user)) for run in chosen]
        return self.page(
            request,
            "run/confirm.html",
            _("%(operation)s runs") % {"operation": operation.label},
            ready=[(run, inspector.state(run), self.conversation(run)) for run, refusal in judged if not refusal],
            skipped=[item for item in judged if item[1]],
            operation=operation,
            action=f"{operation.name}_selected",
            checkbox=ACTION_CHECKBOX_NAME,
            most=MOST_AT_ONCE,
            post_url=self.url("changelist"),
            back_url=self.url("changelist"),
        )
