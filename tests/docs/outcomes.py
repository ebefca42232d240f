"""What a page calls yours, and what must be true once it has been followed, beyond what it shows itself."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.docs.pages import blocks
from tests.docs.project import Project
from tests.wires import WIRES, FunctionCall

PARROT = """
from agentcore.providers import StepFinished, TextDelta

class Parrot:
    name, provider = "parrot", "orders"

    async def stream(self, request):
        yield TextDelta(request.messages[-1].parts[0].text)
        yield StepFinished("stop")

model = Parrot()
"""
GIVEN: dict[str, dict[str, str]] = {
    "README.md": {
        "orders/payments.py": """
            def refund(order, amount_cents, key):
                return {"refunded": amount_cents, "key": key}
        """,
    },
    "docs/howto/test-your-agents.md": {"orders/llm.py": PARROT},
    "docs/reference/checks.md": {"shop/without_layer.py": "from shop.settings import *\n\nCHANNEL_LAYERS = {}\n"},
    "docs/reference/limits.md": {"orders/llm.py": PARROT},
    "docs/reference/websocket.md": {
        "orders/models.py": """
            from django.db import models

            class Token(models.Model):
                key = models.CharField(max_length=40)
                expires_at = models.DateTimeField()
        """
    },
    "docs/howto/tools-that-write-to-your-database.md": {
        "orders/carrier.py": """
            from .models import Parcel

            def ship(order, reference):
                return Parcel.objects.create(number="P-1", key=reference).number
        """
    },
}
"""By page: the files it calls yours."""

REFUNDS = FunctionCall("issue_refund", {"order": "A-1", "amount_cents": 1200})
ANSWERED_BY = {
    "docs/tutorial/first-agent.md": ("openai", WIRES["responses"], [REFUNDS, "Your 12.00 are on their way."]),
}
"""By page: the provider whose key its reader has, the wire of its models, and what one of them says."""

# Has an agent of the page's play a script of one call and a text; prints the call's status and result.
PLAY = """
from agentcore import Agent
from agentcore.testing import ScriptedModel, Turn, run_until_idle
from django.contrib.auth import get_user_model

def play(tool, **arguments):
    ada, _ = get_user_model().objects.get_or_create(username="ada", is_staff=True, is_superuser=True)
    model = ScriptedModel([Turn(calls=[(tool.name, arguments)]), Turn(text="Done.")])
    agent = Agent(name=f"test-{tool.name}", model=model, tools=[tool])
    run = agent.runs.send(agent.threads.create(user=ada), "Do it.", user=ada)
    run_until_idle(run)
    (call,) = agent.tools.list(run, user=ada)
    return call.status, call.result_json
"""


@contextmanager
def provider(project: Project, page: str) -> Iterator[None]:
    """Stand in for the provider that a page has its reader ask; all that it says must be asked for."""
    if page not in ANSWERED_BY:
        yield
        return
    name, wire, said = ANSWERED_BY[page]
    with wire.serve(*(wire.asks(one) if isinstance(one, FunctionCall) else wire.says(one) for one in said)) as server:
        project.env |= {f"{name.upper()}_API_KEY": wire.key, f"{name.upper()}_BASE_URL": wire.base(server)}
        yield
    assert (len(server.requests), server.unexpected) == (len(said), 0)


def it_stands(project: Project) -> None:
    """The page shows all there is to see, and has left a project that starts."""
    project.run("python manage.py check --fail-level ERROR")


def agentcore_is_added(project: Project) -> None:
    """The site is there, its agent is found, and a page may follow a thread on the server that runs."""
    project.command("python manage.py runserver --noreload")  # which checks first, and starts only without an error
    assert project.get("/agent/openapi.json")[0] == 200
    assert project.get("/static/agentcore/agent-client.js")[0] == 200


def the_ten_lines_refund_once(project: Project) -> None:
    """The view starts a run, and what is approved is refunded under the call's own key."""
    said = project.python(
        PLAY
        + """
from agentcore.models import Run
from agentcore.testing import scripted
from django.test import RequestFactory
from orders.agents import support
from orders.views import complain
import json

boss = get_user_model().objects.create_superuser("boss")
request = RequestFactory().post("/", {"text": "My parcel never came.", "key": "form-1"})
request.user = boss
run = Run.objects.get(pk=json.loads(complain(request).content)["run"])
with scripted(support, Turn(calls=[("issue_refund", {"order": "A-1", "amount_cents": 5})]), Turn(text="Refunded.")):
    run = run_until_idle(run)
    print(run.status)
    (approval,) = support.tools.pending(user=boss)
    support.tools.approve(approval.pk, user=boss, digest=approval.digest)
    print(run_until_idle(run).status)
(call,) = support.tools.list(run, user=boss)
print(call.result_json["refunded"], call.result_json["key"] == str(call.pk))
"""
    )
    assert said.split() == ["waiting", "succeeded", "5", "True"], said


def the_database_has_the_options(project: Project) -> None:
    """The page's options are in force, and a run gets to its end under them."""
    said = project.python(
        """
from agentcore.testing import run_until_idle
from django.contrib.auth import get_user_model
from django.db import connection
from orders.agents import support

asked = {
    "sqlite": ["PRAGMA journal_mode", "PRAGMA synchronous"],
    "postgresql": ["SHOW lock_timeout", "SHOW statement_timeout", "SHOW idle_in_transaction_session_timeout"],
}
for question in asked[connection.vendor]:
    with connection.cursor() as cursor:
        cursor.execute(question)
        print(*cursor.fetchone())
ada, _ = get_user_model().objects.get_or_create(username="ada")
print(run_until_idle(support.runs.send(support.threads.create(user=ada), "Hello", user=ada)).status)
"""
    )
    wanted = {"SQLite": ["wal", "2"], "PostgreSQL": ["5s", "30s", "10s"]}[project.database]
    assert said.split() == [*wanted, "succeeded"], said


def the_file_is_compressed(project: Project) -> None:
    project.directory.joinpath("letter.txt").write_text("Dear Ada")
    said = project.python(f"{PLAY}\nfrom orders.tools import compress\nprint(*play(compress, path='letter.txt'))")
    assert said.strip() == "succeeded ended with 0", said
    assert project.directory.joinpath("letter.txt.gz").exists()


def the_room_is_booked_and_the_parcel_sent(project: Project) -> None:
    said = project.python(
        f"{PLAY}\nfrom orders.tools import book\nfrom orders.shipping import ship\n"
        "from orders.models import Booking, Parcel\n"
        "print(*play(book, room='12'), *play(ship, order='A-1'))\n"
        "print(Booking.objects.get().guest, Parcel.objects.count())\n"
    )
    assert said.split() == "succeeded {'booking': 1} succeeded {'parcel': 'P-1'} ada 1".split(), said


def the_check_is_silenced(project: Project) -> None:
    assert "(1 silenced)" in project.run("python manage.py check --settings shop.without_layer")


def policy_and_days_are_the_pages(project: Project) -> None:
    code = "from agentcore.access import get_policy\nfrom agentcore.conf import get_settings\n"
    said = project.python(f"{code}print(type(get_policy()).__name__, get_settings().approval_days)")
    assert said.split() == ["TeamPolicy", "2"]


def the_limits_are_the_agents(project: Project) -> None:
    said = project.python("from orders.agents import support; print(support.definition.limits.max_steps)")
    assert said.strip() == "12", said


def the_tools_can_be_declared(project: Project) -> None:
    imports = "from orders.refunds import refund\nfrom orders.tools import ship\n"
    said = project.python(f"{imports}print(*ship.schema['properties'], refund.name)")
    assert said.split() == ["to", "on", "weight", "refund"], said


def tokens_are_asked_for(project: Project) -> None:
    said = project.python(
        """
from shop.tokens import still_allowed

call_command("makemigrations", "orders", verbosity=0)
call_command("migrate", verbosity=0)
print(still_allowed({"token": "none"}))
"""
    )
    assert said.strip() == "False", said


def a_token_needs_no_csrf(project: Project) -> None:
    said = project.python(
        """
from django.contrib.auth import get_user_model
from django.core import signing
from django.test import Client
from agentcore.services import threads

boss, _ = get_user_model().objects.get_or_create(username="token-boss")
thread = threads.create(user=boss)
client = Client(enforce_csrf_checks=True)
for key in (signing.dumps(boss.pk, salt="api"), "rubbish"):
    headers = {"Authorization": f"Bearer {key}", "Host": "localhost"}
    body = {"agent": "nobody", "text": "Hello"}
    answer = client.post(f"/agent/threads/{thread.pk}/runs", body, "application/json", headers=headers)
    print(answer.status_code, answer.json()["code"])
"""
    )
    assert 0 <= said.find("404 agent_unknown") < said.find("401 not_signed_in"), said  # Django's own log is there too


AFTERWARDS: dict[str, Callable[[Project], None]] = {
    "README.md": the_ten_lines_refund_once,
    "docs/howto/add-to-a-project.md": agentcore_is_added,
    "docs/howto/call-the-api-with-tokens.md": a_token_needs_no_csrf,
    "docs/howto/deploy.md": the_database_has_the_options,
    "docs/howto/tools-that-start-programs.md": the_file_is_compressed,
    "docs/howto/tools-that-write-to-your-database.md": the_room_is_booked_and_the_parcel_sent,
    "docs/reference/checks.md": the_check_is_silenced,
    "docs/reference/limits.md": the_limits_are_the_agents,
    "docs/reference/tools.md": the_tools_can_be_declared,
    "docs/reference/websocket.md": tokens_are_asked_for,
    "docs/reference/settings.md": policy_and_days_are_the_pages,
}


def given(project: Project, page: str) -> None:
    """Write the files that the page calls yours."""
    for name, text in GIVEN.get(page, {}).items():
        project.directory.joinpath(name).write_text(textwrap.dedent(text))


def check(project: Project, page: str) -> None:
    """See that what the page is for has come about; where it shows that itself, that the files it gave still start."""
    if page in AFTERWARDS:
        AFTERWARDS[page](project)
    elif any(block.file for block in blocks(page)):
        it_stands(project)
