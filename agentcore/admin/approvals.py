"""The inbox of decisions, and the screen on which one is taken."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import PermissionDenied
from django.db.models import Case, F, Q, QuerySet, Value, When
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from ..access import get_policy, visible_approvals, visible_runs
from ..exceptions import Invalid, RequestError
from ..models import Approval, Run
from ..services import approvals as service
from ..states import ApprovalStatus
from . import show
from .base import AgentFilter, ReadOnlyAdmin
from .decision import Typed, card, posted

MOST_AT_ONCE = 50  # a person can read that many before they decide them together
IS_PENDING = Q(status=ApprovalStatus.PENDING)
PENDING_FIRST = Case(When(IS_PENDING, then=Value(0)), default=Value(1))
OLDEST_PENDING_FIRST = Case(When(IS_PENDING, then=F("requested_at")), default=None)
PAST = {"approve": gettext_lazy("approved"), "deny": gettext_lazy("denied")}


class StatusFilter(admin.SimpleListFilter):
    """Filter by status; without a choice the inbox shows what is still owed."""

    title = gettext_lazy("status")
    parameter_name = "status"
    every = "all"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(status.value, status.value) for status in ApprovalStatus] + [(self.every, _("all"))]

    def choices(self, changelist: Any) -> Any:
        chosen = self.value() or ApprovalStatus.PENDING.value
        for value, label in self.lookup_choices:
            query = changelist.get_query_string({self.parameter_name: value})
            yield {"selected": value == chosen, "query_string": query, "display": label}

    def queryset(self, request: HttpRequest, queryset: QuerySet[Approval]) -> QuerySet[Approval]:
        chosen = self.value() or ApprovalStatus.PENDING.value
        return queryset if chosen == self.every else queryset.filter(status=chosen)


class RunAgentFilter(AgentFilter):
    """Filter approvals by the agent of their run."""

    field = "run__agent"


@admin.register(Approval)
class ApprovalAdmin(ReadOnlyAdmin):
    """Decisions people owe on tool calls, and those they took; a decision goes through the service alone."""

    visible = staticmethod(visible_approvals)

    search_fields = ["id"]
    search_ids = ("pk", "run_id", "run__thread_id")
    search_person = "run__user"
    list_display = ["tool", "asked", "age", "expiry", "requester", "agent", "state", "decider"]
    list_display_links = ["tool", "asked"]
    list_filter = [StatusFilter, RunAgentFilter, "requested_at"]
    list_select_related = ["run__thread", "run__user", "tool_call", "decided_by"]
    date_hierarchy = "requested_at"
    ordering = [PENDING_FIRST, OLDEST_PENDING_FIRST, "-requested_at", "pk"]
    actions = ["approve_selected", "deny_selected"]

    def get_urls(self) -> list[URLPattern]:
        decide = path("<uuid:object_id>/decide/", self.command(self.decide), name="agentcore_approval_decide")
        return [decide, *super().get_urls()]

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """Return the approval with what its page shows, in one query."""
        found = super().get_object(request, object_id, from_field)
        return None if found is None else self._whole(request).get(pk=found.pk)

    def has_decide_permission(self, request: HttpRequest) -> bool:
        """Whether batch decisions are offered; the policy still judges each one."""
        return self.may_any(request, lambda approval: get_policy().may_decide(request.user, approval))

    # --- the inbox ---------------------------------------------------------------------------------------------------

    @admin.display(description=gettext_lazy("tool"))
    def tool(self, approval: Approval) -> str:
        return show.visible(approval.tool_call.name, keep="")

    @admin.display(description=gettext_lazy("arguments"))
    def asked(self, approval: Approval) -> str:
        return show.preview(approval.arguments, 70)

    @admin.display(description=gettext_lazy("agent"), ordering="run__agent")
    def agent(self, approval: Approval) -> str:
        return str(approval.run.agent)

    @admin.display(description=gettext_lazy("requester"))
    def requester(self, approval: Approval) -> str:
        return str(approval.run.user or "–")

    @admin.display(description=gettext_lazy("status"), ordering="status")
    def state(self, approval: Approval) -> str:
        return show.badge(approval.status)

    @admin.display(description=gettext_lazy("age"), ordering="-requested_at")
    def age(self, approval: Approval) -> str:
        return show.took(approval.requested_at, approval.decided_at)

    @admin.display(description=gettext_lazy("expires"), ordering="expires_at")
    def expiry(self, approval: Approval) -> str:
        if approval.status != ApprovalStatus.PENDING:
            return "–"
        left = (approval.expires_at - timezone.now()).total_seconds()
        return _("in %(time)s") % {"time": show.seconds(left)} if left > 0 else _("expired")

    @admin.display(description=gettext_lazy("decided by"))
    def decider(self, approval: Approval) -> str:
        return show.visible(approval.decided_by_name, keep="") or "–"

    # --- one decision ------------------------------------------------------------------------------------------------

    def detail(self, request: HttpRequest, obj: Approval, typed: Typed | None = None) -> HttpResponse:
        run = visible_runs(request.user).select_related("prompt").filter(pk=obj.run_id).first()
        shown = card(obj, request.user, self.admin_site, typed)
        response = self.page(
            request,
            "approval/detail.html",
            _("Approval: %(tool)s") % {"tool": shown.tool},
            obj,
            card=shown,
            # An approval may be visible to people who may not read the conversation it comes from.
            run_url=show.address(self.admin_site, Run, "change", obj.run_id) if run else "",
            prompt=show.brief(run.prompt.text, 2000) if run and run.prompt else "",
            age=self.age(obj),
            expiry=self.expiry(obj),
            next_url=self._next(request, obj),
        )
        if typed and typed.error:
            response.status_code = 400
        return response

    def decide(self, request: HttpRequest, approval: Approval) -> HttpResponse:
        """Take one decision, on exactly what the form showed."""
        if not get_policy().may_decide(request.user, approval):
            raise PermissionDenied
        try:
            self._decide_one(request, approval, posted(request, approval))
        except Invalid as error:
            typed = Typed(request.POST.get("reason", ""), request.POST.get("arguments", ""), error.message)
            return self.detail(request, approval, typed)
        except RequestError as error:
            self.message_user(request, error.message, messages.ERROR)
        back = show.address(self.admin_site, Run, "change", approval.run_id) if "from_run" in request.POST else ""
        # Never on to the next item by itself: the second click of a double click would decide it unread.
        return HttpResponseRedirect(back or self.url("change", approval.pk))

    def _decide_one(self, request: HttpRequest, approval: Approval, wanted: service.Decision) -> None:
        before = approval.status
        (after,) = service.decide([wanted], user=request.user)
        values = {"tool": show.visible(approval.tool_call.name, keep=""), "verdict": PAST[wanted.verdict]}
        if before != ApprovalStatus.PENDING:
            self.message_user(request, _("You had %(verdict)s %(tool)s already.") % values, messages.INFO)
            return
        edited = _(" with edited arguments") if after.edited_arguments else ""
        note = _("Decided: %(verdict)s %(tool)s%(edited)s (digest %(digest)s).")
        self.log_change(request, after, note % {**values, "edited": edited, "digest": after.digest[:16]})
        self.message_user(request, _("You %(verdict)s %(tool)s.") % values, messages.SUCCESS)

    # --- many decisions ----------------------------------------------------------------------------------------------

    @admin.action(permissions=["decide"], description=gettext_lazy("Approve selected calls"))
    def approve_selected(self, request: HttpRequest, queryset: QuerySet[Approval]) -> HttpResponse:
        return self._batch(request, queryset, "approve")

    @admin.action(permissions=["decide"], description=gettext_lazy("Deny selected calls"))
    def deny_selected(self, request: HttpRequest, queryset: QuerySet[Approval]) -> HttpResponse:
        return self._batch(request, queryset, "deny")

    def _batch(self, request: HttpRequest, queryset: QuerySet[Approval], verdict: service.Verdict) -> HttpResponse:
        """Show what is about to be decided; once that page is sent back, decide exactly what it showed."""
        chosen = list(self._whole(request).filter(pk__in=list(queryset.values_list("pk", flat=True)[:MOST_AT_ONCE])))
        if "confirmed" in request.POST:
            for approval in chosen:
                self._decide_shown(request, approval, verdict)
            return HttpResponseRedirect(self.url("changelist"))
        cards = [card(approval, request.user, self.admin_site) for approval in chosen]
        ready = [item for item in cards if not item.refusal]
        title = ngettext("Decide %(count)d call", "Decide %(count)d calls", len(ready)) % {"count": len(ready)}
        return self.page(
            request,
            "approval/confirm.html",
            title,
            ready=ready,
            skipped=[item for item in cards if item.refusal],
            verdict=verdict,
            action=f"{verdict}_selected",
            checkbox=ACTION_CHECKBOX_NAME,
            most=MOST_AT_ONCE,
            # All statuses: what this page's first sending decides must still be found by a second one.
            post_url=f"{self.url('changelist')}?{StatusFilter.parameter_name}={StatusFilter.every}",
            back_url=self.url("changelist"),
        )

    def _decide_shown(self, request: HttpRequest, approval: Approval, verdict: service.Verdict) -> None:
        digest, reason = request.POST.get(f"digest_{approval.pk}", ""), request.POST.get("reason", "")
        try:
            self._decide_one(request, approval, service.Decision(approval.pk, verdict, digest, reason))
        except RequestError as error:
            tool = show.visible(approval.tool_call.name, keep="")
            self.message_user(request, f"{tool} ({str(approval.pk)[-8:]}): {error.message}", messages.ERROR)

    def _next(self, request: HttpRequest, approval: Approval) -> str:
        """Return the address of the decision that is owed longest, other than this one."""
        owed = service.pending(user=request.user).exclude(pk=approval.pk).values_list("pk", flat=True).first()
        return self.url("change", owed) if owed else ""

    def _whole(self, request: HttpRequest) -> QuerySet[Approval]:
        return self.get_queryset(request).select_related(*self.list_select_related).order_by("requested_at", "pk")
