"""Starting up: agents are found, and no database is asked for anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.apps import apps

from agentcore.declaration import registry
from supportdemo.servers import free_port
from tests.integration.projects import python

pytestmark = pytest.mark.once

# Every way to a database counts its visitors; at the end one is sent, to see that it would have been counted.
SETUP = """
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import OperationalError
asked = []
connect = BaseDatabaseWrapper.ensure_connection
BaseDatabaseWrapper.ensure_connection = lambda self: (asked.append(self.alias), connect(self))[1]
import django
django.setup()
from agentcore.declaration import registry
assert {"echo", "gated"} <= set(registry.names()), registry.names()
from django.core.management import call_command
call_command("check")
import agentcore.agent, agentcore.jobs.single, agentcore.routing, agentcore.urls
assert asked == [], asked
from agentcore.models import Run
try:
    Run.objects.exists()
except OperationalError:
    assert asked == ["default"], asked
    print("refused, and nobody else had asked")
"""


@pytest.mark.covers("dj:APP-2", "dj:SET-6")
def test_nothing_is_asked_of_a_database_while_starting_or_checking() -> None:
    refusing = f"postgresql://nobody:x@127.0.0.1:{free_port()}/nothing"
    said = python("-c", SETUP, settings="tests.settings.postgres", database=refusing)
    assert said.splitlines()[-1] == "refused, and nobody else had asked"


@pytest.mark.covers("dj:APP-1")
@pytest.mark.parametrize("label", ["agentcore", "agentcore_streams"])
def test_the_apps_say_who_they_are(label: str) -> None:
    config = apps.get_app_config(label)
    assert config.default_auto_field == "django.db.models.BigAutoField"
    assert str(config.verbose_name) and not isinstance(config.verbose_name, str)  # translated when it is shown


@pytest.mark.covers("dj:APP-3")
def test_the_agents_of_an_installed_app_are_found() -> None:
    assert {"echo", "slow", "gated", "support"} <= set(registry.names())


PROJECT = """
import sys
sys.path.insert(0, {directory!r})
import django
from django.conf import settings
settings.configure(SECRET_KEY="x", INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes",
    "agentcore.streams", "agentcore", *{apps!r}])
django.setup()
from agentcore.declaration import registry
print(*registry.names())
"""


@pytest.mark.covers("dj:APP-3")
def test_an_app_needs_no_agents_module_and_one_may_declare_several(tmp_path: Path) -> None:
    app(tmp_path, "plain")
    app(tmp_path, "shop", agents(("seller", "buyer")))
    assert say(tmp_path, "plain", "shop").split() == ["buyer", "seller"]


@pytest.mark.covers("dj:APP-3")
def test_a_broken_agents_module_raises_its_own_error(tmp_path: Path) -> None:
    app(tmp_path, "shop", "import no_such_module_at_all")
    with pytest.raises(AssertionError, match="No module named 'no_such_module_at_all'"):
        say(tmp_path, "shop")


@pytest.mark.covers("dj:APP-4")
def test_two_apps_that_take_one_name_are_told_which(tmp_path: Path) -> None:
    app(tmp_path, "shop", agents(("seller",)))
    app(tmp_path, "market", agents(("seller",)))
    with pytest.raises(AssertionError, match="DuplicateAgent: An agent called 'seller'"):
        say(tmp_path, "shop", "market")


@pytest.mark.covers("dj:APP-5")
def test_the_public_names_may_be_imported_while_apps_load(tmp_path: Path) -> None:
    app(tmp_path, "early", package="from agentcore import Limits, ModelRetry, SYSTEM, ToolContext, tool")
    assert say(tmp_path, "early") == "\n"


def app(directory: Path, name: str, module: str = "", package: str = "") -> None:
    (directory / name).mkdir()
    (directory / name / "__init__.py").write_text(package)
    if module:
        (directory / name / "agents.py").write_text(module)


def agents(names: tuple[str, ...]) -> str:
    model = "from agentcore import Agent\nfrom agentcore.testing import ScriptedModel\n"
    return model + "".join(f"Agent(name={name!r}, model=ScriptedModel([]))\n" for name in names)


def say(directory: Path, *apps: str) -> str:
    return python("-c", PROJECT.format(directory=str(directory), apps=list(apps)), settings="", database="")
