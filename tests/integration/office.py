"""A second admin site beside the default one, a clerk whose runs operators look at, and the operators."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.urls import path, reverse

from agentcore import Agent, tool
from agentcore.access import SYSTEM
from agentcore.admin import ApprovalAdmin, RunAdmin, ThreadAdmin
from agentcore.models import Approval, Run, Thread, ToolCall
from agentcore.testing import Call, ScriptedModel, Turn, run_until_idle

site = admin.AdminSite(name="office")
site.register(Run, RunAdmin)
site.register(Approval, ApprovalAdmin)
site.register(Thread, ThreadAdmin)

urlpatterns = [path("admin/", admin.site.urls), path("office/", site.urls)]


class Clerk:
    """An agent that plays what it is given; the payments it really made are in `paid`."""

    def __init__(self) -> None:
        self.paid: list[int] = []
        self.model = ScriptedModel([])
        paid = self.paid

        @tool(needs_approval=True)
        def pay(cents: int, to: str = "ada") -> dict[str, int]:
            """Pay somebody."""
            paid.append(cents)
            return {"paid": cents}

        @tool(effect="idempotent")
        def note(text: str) -> str:
            """Write something down."""
            return text

        self.agent = Agent(name="clerk", version="1", model=lambda about: self.model, tools=[pay, note])

    def run(self, *turns: Turn, owner: Any = SYSTEM, prompt: str = "Pay, please.", title: str = "") -> Run:
        """A run, as far as it comes by itself."""
        self.model = ScriptedModel(turns)
        thread = self.agent.threads.create(user=owner, title=title)
        return run_until_idle(self.agent.runs.send(thread, prompt, user=owner))

    def asks(self, *calls: Call, owner: Any = SYSTEM, **options: Any) -> Run:
        """A run that waits for approvals; once they are decided it says a last word."""
        return self.run(Turn(calls=calls or [("pay", {"cents": 500})]), Turn(text="Done."), owner=owner, **options)

    def answers(self, text: str = "Hello.", **options: Any) -> Run:
        """A run that has succeeded."""
        return self.run(Turn(text=text), **options)

    def doubts(self, **options: Any) -> Run:
        """A run that waits, for nobody knows whether its call took effect."""
        run = self.asks(**options)
        Approval.objects.filter(run=run).delete()
        ToolCall.objects.filter(run=run).update(status="effect_unverified", error="The worker died.")
        return run


def staff(name: str, *permissions: str, superuser: bool = False) -> Any:
    """A member of staff with these permissions of agentcore and no others."""
    person = get_user_model().objects.create_user(name, password="pw", is_staff=True, is_superuser=superuser)
    ours = Permission.objects.filter(content_type__app_label="agentcore", codename__in=permissions)
    wanted = ours.order_by().values_list("pk", flat=True)
    assert len(wanted) == len(permissions)
    person.user_permissions.add(*wanted)
    return person  # without cached permissions: it has not been asked for any yet


def address(model: type[Any], view: str, *args: Any, on: str = "admin") -> str:
    """The address of one of agentcore's pages on a site."""
    return reverse(f"{on}:agentcore_{model._meta.model_name}_{view}", args=args)


def said(response: Any) -> list[str]:
    """The messages a page shows, after the redirects to it."""
    return [str(message) for message in response.context["messages"]]
