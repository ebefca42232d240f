"""System checks: each has an id, a hint and a paragraph, speaks up when it should and is silent when not."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.core import checks
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db.backends.base.base import BaseDatabaseWrapper

from tests.integration.checked_settings import BAD, FINE, GOOD, SQLITE, AndTheLogs, Replica, found, hosts
from tests.stack import ROOT

PAGE = ROOT / "docs" / "reference" / "checks.md"
# Where a reader without the sources finds that page.
SOURCE = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Source"]
ADDRESS = f"{SOURCE}/blob/main/{PAGE.relative_to(ROOT).as_posix()}"


def cases() -> list[Any]:
    return [
        pytest.param(id_, values, id=f"{id_}-{number}")
        for id_, several in BAD.items()
        for number, values in enumerate(several)
    ]


pytestmark = [pytest.mark.once, pytest.mark.filterwarnings("ignore:Overriding setting DATABASES")]


@pytest.mark.covers("dj:SET-3", "dj:SET-5")
@pytest.mark.parametrize(("id_", "values"), cases())
def test_a_check_speaks_up_with_a_hint_and_an_anchor(settings: LazySettings, id_: str, values: dict[str, Any]) -> None:
    messages = [message for message in found(settings, values) if message.id == id_]
    assert messages
    for message in messages:
        assert isinstance(message, checks.Error if id_[len("agentcore.")] == "E" else checks.Warning)
        anchor = id_.replace(".", "").lower()
        assert message.hint and message.hint.endswith(f" See {ADDRESS}#{anchor}")
        assert message.msg.endswith(".")


@pytest.mark.covers("dj:SET-3", "dj:SET-5")
@pytest.mark.parametrize("values", FINE, ids=range(len(FINE)))
def test_good_settings_are_passed_in_silence(settings: LazySettings, values: dict[str, Any]) -> None:
    assert found(settings, values) == []


@pytest.mark.covers("dj:SET-5")
@pytest.mark.parametrize(("id_", "values"), cases())
def test_one_fault_is_one_complaint(settings: LazySettings, id_: str, values: dict[str, Any]) -> None:
    assert {message.id for message in found(settings, values)} == {id_}


def test_a_model_that_is_routed_elsewhere_is_named_with_its_database(settings: LazySettings) -> None:
    (away,) = found(settings, {"DATABASE_ROUTERS": [AndTheLogs()]})
    assert away.msg.endswith(": agentcore_streams.Stream (other), agentcore_streams.Record (other).")
    (apart,) = found(settings, {"DATABASE_ROUTERS": [Replica()]})
    assert "agentcore.Run (other)" in apart.msg and "auth" not in apart.msg


def emitted() -> list[str]:
    """The ids in the source: each is made by one of two helpers, with its number."""
    calls = [
        node
        for node in ast.walk(ast.parse((ROOT / "agentcore" / "checks.py").read_text()))
        if isinstance(node, ast.Call)
    ]
    letters = {"_error": "E", "_warning": "W"}
    made = [
        (letters[call.func.id], call.args[0])
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id in letters
    ]
    return sorted(
        {f"agentcore.{letter}{number.value:03}" for letter, number in made if isinstance(number, ast.Constant)}
    )


@pytest.mark.covers("fc:C6")
def test_times_without_a_time_zone_are_an_error_that_says_so(settings: LazySettings) -> None:
    settings.USE_TZ = False
    found = [message for message in checks.run_checks(tags=["agentcore"]) if message.id == "agentcore.E010"]
    assert [message.level for message in found] == [checks.ERROR]
    assert "USE_TZ is False" in found[0].msg and "USE_TZ = True" in str(found[0].hint)


@pytest.mark.covers("dj:SET-4", "dj:DOC-3")
def test_the_ids_emitted_are_the_ids_documented_and_the_ids_tested() -> None:
    headings = re.findall(r"^## (.+)$", PAGE.read_text(), re.MULTILINE)
    assert headings == emitted() == sorted(BAD)
    assert len(headings) == len(set(headings))


@pytest.mark.covers("dj:SET-4")
@pytest.mark.parametrize("id_", sorted(BAD))
def test_each_id_is_documented_with_its_cause_and_its_mend(id_: str) -> None:
    paragraph = PAGE.read_text().split(f"## {id_}\n")[1].split("\n## ")[0]
    assert "*Cause:*" in paragraph and "*Mend:*" in paragraph


@pytest.mark.covers("dj:SET-4")
def test_no_check_of_ours_is_made_elsewhere_or_without_an_id() -> None:
    makers = {"Error", "Warning", "Critical", "Info", "CheckMessage", "Debug"}
    for path in (ROOT / "agentcore").rglob("*.py"):
        imports = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        imported = {alias.name for node in imports if node.module == "django.core.checks" for alias in node.names}
        assert not imported & makers or path.name == "checks.py", path


@pytest.mark.covers("dj:SET-4")
def test_a_check_can_be_silenced_by_its_id(settings: LazySettings) -> None:
    (error,) = found(settings, {"AGENTCORE": {"NONSENSE": 1}})
    assert not error.is_silenced()
    with pytest.raises(SystemCheckError, match=r"agentcore\.E001"):
        call_command("check", tags=["agentcore"])
    settings.SILENCED_SYSTEM_CHECKS = ["agentcore.E001"]
    assert error.is_silenced()
    call_command("check", tags=["agentcore"])


BROKEN = {
    "from nowhere import nothing": "ModuleNotFoundError: No module named 'nowhere' (asgi_{}.py, line 2)",
    "application = ProtocolTypeRouter({})": "NameError: name 'ProtocolTypeRouter' is not defined (asgi_{}.py, line 2)",
    "import os; os.environ['NO_SUCH_NAME']": "KeyError: 'NO_SUCH_NAME' (asgi_{}.py, line 2)",
    "application = (": "SyntaxError: '(' was never closed (asgi_{}.py, line 2)",
    "def broken(): raise OSError('gone')\nbroken()": "OSError: gone (asgi_{}.py, line 2)",
}


@pytest.mark.parametrize("number", range(len(BROKEN)))
def test_a_broken_application_is_told_with_its_error_and_its_line(
    settings: LazySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    code, said = list(BROKEN.items())[number]
    (tmp_path / f"asgi_{number}.py").write_text(f"# a project's own\n{code}\n")
    monkeypatch.syspath_prepend(tmp_path)
    (message,) = found(settings, {"ASGI_APPLICATION": f"asgi_{number}.application"})
    assert message.id == "agentcore.E008" and said.format(number) in message.msg


@pytest.mark.parametrize("there", ["absent", "None"])
def test_a_project_without_an_asgi_application_is_left_alone(settings: LazySettings, there: str) -> None:
    values = {**GOOD, "ASGI_APPLICATION": None}
    assert found(settings, values) == []
    if there == "absent":
        del settings.ASGI_APPLICATION
        assert [message for message in checks.run_checks(tags=["agentcore"]) if message.id == "agentcore.E008"] == []


@pytest.mark.covers("dj:SET-6")
def test_no_check_touches_a_database(settings: LazySettings, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: BaseDatabaseWrapper) -> None:
        raise AssertionError("a check asked the database")

    monkeypatch.setattr(BaseDatabaseWrapper, "ensure_connection", refuse)
    assert checks.run_checks(tags=["agentcore"]) == []


@pytest.mark.covers("dj:SET-7")
def test_no_check_tells_a_secret(settings: LazySettings) -> None:
    secret = "redis://user:hunter2@localhost/0"
    values = {
        "RQ_QUEUES": {"agentcore": {"URL": secret}},
        **hosts(secret),
        "DATABASES": {"default": {**SQLITE, "PASSWORD": "hunter2", "OPTIONS": {}}},
    }
    messages = found(settings, values)
    assert {message.id for message in messages} >= {"agentcore.W002", "agentcore.W006", "agentcore.W007"}
    assert "hunter2" not in "".join(f"{message.msg} {message.hint}" for message in messages)
