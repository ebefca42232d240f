"""Migrations: complete in every project, and they can be taken back while there is data."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import migrations

from tests.integration.projects import empty_database, python
from tests.stack import ROOT, database_url

ANOTHER_PROJECT = "tests.settings.another_project"
MIGRATIONS = sorted((ROOT / "agentcore").glob("**/migrations/0*.py"))


@pytest.mark.django_db
@pytest.mark.covers("dj:MIG-1")
def test_models_and_migrations_agree_in_this_project(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("makemigrations", "--check", "--dry-run")
    assert "No changes detected" in capsys.readouterr().out


@pytest.mark.django_db
@pytest.mark.covers("dj:MIG-1", "dj:MOD-12")
@pytest.mark.parametrize(
    "variant",
    [
        {},
        {"LANGUAGE_CODE": "ar"},
        {"DEFAULT_AUTO_FIELD": "django.db.models.BigAutoField"},
        {"AGENTCORE": {"QUEUE": "other", "ACCESS_POLICY": "x.y", "APPROVAL_DAYS": 1}},
    ],
    ids=lambda variant: "".join(variant) or "as it is",
)
def test_models_and_migrations_agree_in_another_project(tmp_path: Path, variant: dict[str, object]) -> None:
    """Its users have UUIDs, its default key is an AutoField, its language is German; and what the variant says."""
    code = (
        f"import django\nfrom django.conf import settings\n"
        f"for name, value in {variant!r}.items(): setattr(settings, name, value)\n"
        "django.setup()\nfrom django.core.management import call_command\n"
        "call_command('makemigrations', '--check', '--dry-run', skip_checks=True)"
    )
    with empty_database(tmp_path) as url:
        assert "No changes detected" in python("-c", code, settings=ANOTHER_PROJECT, database=url)


@pytest.mark.django_db
@pytest.mark.covers("dj:MOD-1")
def test_a_project_whose_users_have_uuids_and_log_in_by_mail_runs_an_agent(tmp_path: Path) -> None:
    with empty_database(tmp_path) as url:
        said = python("-m", "tests.customuser.flow", settings=ANOTHER_PROJECT, database=url)
    assert said.splitlines()[-1] == "flow: ok"


@pytest.mark.covers("dj:MOD-1")
def test_every_migration_that_names_a_user_depends_on_the_projects_own() -> None:
    for path in MIGRATIONS:
        text = path.read_text()
        assert ("AUTH_USER_MODEL" in text) == ("migrations.swappable_dependency(settings.AUTH_USER_MODEL)" in text)
        assert "auth.user" not in text.lower()


THERE_AND_BACK = """
import django
django.setup()
from django.core.management import call_command
from django.db import connection
call_command("migrate", verbosity=0)
from django.contrib.auth import get_user_model
from agentcore import SYSTEM, Agent, tool
from agentcore.models import Run, Thread
from agentcore.testing import ScriptedModel, Turn, run_until_idle

@tool(needs_approval=True)
def pay(cents: int) -> str:
    return "paid"

agent = Agent(name="payer", tools=[pay], model=ScriptedModel([Turn(text="Hi", calls=[("pay", {"cents": 5})])] * 2))
user = get_user_model().objects.create_user("ada@example.com")

def fill():
    thread = agent.threads.create(user=user)
    run = run_until_idle(agent.runs.send(thread, "Pay", user=user))
    assert run.status == "waiting", run.status

def tables():
    return sorted(name for name in connection.introspection.table_names() if name.startswith("agentcore_"))

def shape():
    found = {}
    with connection.cursor() as cursor:
        for name in tables():
            details = connection.introspection.get_constraints(cursor, name).values()
            kinds = sorted(str((item["columns"], item["unique"], item["check"], item["index"])) for item in details)
            columns = sorted(row.name for row in connection.introspection.get_table_description(cursor, name))
            found[name] = (columns, kinds)
    return found

fill()
before = shape()
call_command("migrate", "agentcore", "zero", verbosity=0)
assert {name for name in tables() if not name.startswith("agentcore_streams_")} == set(), tables()
call_command("migrate", verbosity=0)
assert shape() == before
assert Thread.objects.count() == 0
fill()
call_command("migrate", "agentcore_streams", "zero", verbosity=0)
assert tables() == [], tables()
call_command("migrate", verbosity=0)
assert shape() == before
print("there and back: ok")
"""


@pytest.mark.django_db
@pytest.mark.covers("dj:MIG-2")
def test_migrations_can_be_taken_back_and_made_again_while_there_is_data(tmp_path: Path) -> None:
    with empty_database(tmp_path) as url:
        said = python("-c", THERE_AND_BACK, settings=ANOTHER_PROJECT, database=url)
    assert said.splitlines()[-1] == "there and back: ok"


@pytest.mark.django_db
@pytest.mark.covers("dj:MIG-2")
def test_the_plan_of_the_demo_can_be_taken_back_too(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("migrate", "agentcore", "zero", "--plan")
    assert "IRREVERSIBLE" not in capsys.readouterr().out


@pytest.mark.covers("dj:MIG-3")
def test_every_migration_of_code_has_a_reverse() -> None:
    for path in MIGRATIONS:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("RunPython", "RunSQL"):
                assert len(node.args) > 1 or any(word.arg in ("reverse_code", "reverse_sql") for word in node.keywords)
    assert MIGRATIONS and migrations.RunPython.reversible


@pytest.mark.django_db
def test_this_projects_database_is_migrated_to_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert database_url().startswith("sqlite" if "sqlite" in settings.SETTINGS_MODULE else "postgresql")
    call_command("migrate", "--plan")
    assert "No planned migration operations." in capsys.readouterr().out
