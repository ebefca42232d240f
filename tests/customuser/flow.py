"""A small life of agentcore in another project: a thread, a message, an approval, an answer; run as a script."""

from __future__ import annotations

from typing import Any

import django
from django.core.management import call_command

from agentcore import ToolContext  # needs no models, and no apps that are ready

EMAIL = "a.very.long.name." + "x" * 200 + "@example.com"


def main() -> None:
    """Migrate an empty database and play."""
    django.setup()
    call_command("migrate", verbosity=0)

    from django.contrib.auth import get_user_model
    from django.contrib.auth.models import Permission

    from agentcore import Agent, tool
    from agentcore.exceptions import NotFound
    from agentcore.models import Approval, Message, Run
    from agentcore.testing import ScriptedModel, Turn, run_until_idle

    people: Any = get_user_model().objects
    ada, bob = people.create_user(EMAIL), people.create_user("bob@example.com")
    operator = people.create_user("x" + EMAIL[: -len("example.com")] + "example.org", is_staff=True)
    operator.user_permissions.add(Permission.objects.get(codename="decide_approval"))

    @tool(needs_approval=True)
    def pay(ctx: ToolContext, cents: int) -> str:
        """Pay somebody."""
        return f"paid {cents} for {ctx.user.email}"

    model = ScriptedModel([Turn(calls=[("pay", {"cents": 5})]), Turn(text="Paid.")])
    agent = Agent(name="payer", model=model, tools=[pay])
    thread = agent.threads.create(user=ada)
    run = run_until_idle(agent.runs.send(thread, "Pay", user=ada, key="once"))
    assert run.status == "waiting", (run.status, run.error_message)
    assert run.user_id == ada.pk and run.user_id.version == 4
    try:
        agent.runs.get(run.pk, user=bob)
    except NotFound:
        pass
    else:
        raise AssertionError("a stranger sees the run")
    (approval,) = agent.tools.pending(user=operator)
    agent.tools.approve(approval, user=operator, digest=approval.digest)
    run = run_until_idle(Run.objects.get(pk=run.pk))
    assert run.status == "succeeded", (run.status, run.error_message)
    assert agent.tools.list(run, user=ada)[0].result_json == f"paid 5 for {EMAIL}"
    assert Approval.objects.get().decided_by == operator
    assert Message.objects.get(thread=thread, order=0, step_order=0).author_name == EMAIL[:150]
    ada.delete()
    assert not Run.objects.filter(pk=run.pk).exists()  # an account takes its threads along
    call_command("check", "--fail-level", "ERROR")
    call_command("makemigrations", "--check", "--dry-run")
    print("flow: ok")


if __name__ == "__main__":
    main()
