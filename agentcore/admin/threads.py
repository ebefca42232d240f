"""Threads: whose they are, what was said in them, and the runs they hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy

from ..access import visible_threads
from ..exceptions import Invalid
from ..models import Message, Run, Thread
from ..services import messages as service
from . import inspector, show
from .base import ReadOnlyAdmin

MESSAGES = 50
RUNS = 20


@dataclass(frozen=True)
class MessageRow:
    """One message; `parts` are those its text does not show."""

    message: Message
    author: str
    status: str
    text: str
    parts: str


@admin.register(Thread)
class ThreadAdmin(ReadOnlyAdmin):
    """Conversations, to read."""

    visible = staticmethod(visible_threads)

    search_fields = ["id"]
    search_ids = ("pk",)
    search_person = "owner"
    list_display = ["name", "owner", "turns", "runs", "created_at", "updated_at"]
    list_display_links = ["name"]
    list_filter = ["updated_at"]
    list_select_related = ["owner"]
    date_hierarchy = "created_at"
    ordering = ["-updated_at", "-pk"]
    actions = None

    @admin.display(description=gettext_lazy("thread"))
    def name(self, thread: Thread) -> str:
        return show.preview(str(thread), 60)

    @admin.display(description=gettext_lazy("turns"))
    def turns(self, thread: Thread) -> int:
        return thread.next_order

    @admin.display(description=gettext_lazy("runs"))
    def runs(self, thread: Thread) -> int:
        return thread.next_number - 1  # the row counts them, so that the list need not

    def detail(self, request: HttpRequest, obj: Thread) -> HttpResponse:
        before = request.GET.get("before") or None
        try:
            said = service.list_(obj, user=request.user, before=before, limit=MESSAGES)
        except Invalid:
            before, said = None, service.list_(obj, user=request.user, limit=MESSAGES)
        runs_url = show.address(self.admin_site, Run, "changelist")
        return self.page(
            request,
            "thread/detail.html",
            show.preview(str(obj), 80),
            obj,
            metadata=show.brief_value(obj.metadata) if obj.metadata else "",
            messages_shown=[_row(message) for message in said.messages],
            older=said.before,
            newest=before is None,
            runs=[self._run(run) for run in obj.runs.select_related("user").order_by("-number")[:RUNS]],
            runs_url=f"{runs_url}?thread__id__exact={obj.pk}" if runs_url else "",
        )

    def _run(self, run: Run) -> dict[str, Any]:
        url = show.address(self.admin_site, run, "change", run.pk)
        return {"run": run, "link": show.link(url, str(run)), "state": inspector.state(run)}


def _row(message: Message) -> MessageRow:
    parts = message.to_json()["parts"]
    others = [part for part in parts if part["type"] != "text"]
    return MessageRow(
        message=message,
        author=show.visible(message.author_name, keep=""),
        status="" if message.status == "complete" else show.badge(message.status),
        text=show.brief(message.text),
        parts=show.brief_value(others) if others else "",
    )
