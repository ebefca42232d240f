"""System checks: each has an id, a hint and a paragraph, speaks up when it should and is silent when not."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.core import checks
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model

from agentcore import conf
from agentcore.access import AccessPolicy
from tests.stack import ROOT

PAGE = ROOT / "docs" / "reference" / "checks.md"
# Where a reader without the sources finds that page.
SOURCE = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Source"]
ADDRESS = f"{SOURCE}/blob/main/{PAGE.relative_to(ROOT).as_posix()}"
QUEUE = {"URL": "redis://localhost/0", "SERIALIZER": "rq.serializers.JSONSerializer"}
REDIS_LAYER = "channels_redis.pubsub.RedisPubSubChannelLayer"
SQLITE = {
    "ENGINE": "django.db.backends.sqlite3",
    "OPTIONS": {
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
    },
}
POSTGRES = {"ENGINE": "django.db.backends.postgresql", "OPTIONS": {"options": "-c lock_timeout=5000"}}
WRONG: dict[type, list[Any]] = {str: [None, [], 1, ""], bool: [None, [], "yes", 1, 0]}


class Unfinished(AccessPolicy):
    """Answers none of the questions."""


class Replica:
    """Reads everything from a replica."""

    def db_for_read(self, model: type[Model], **hints: Any) -> str:
        return "other"


class OtherApps:
    """Keeps all apps but agentcore's in another database."""

    ours: tuple[str, ...] = ("agentcore", "agentcore_streams")

    def db_for_read(self, model: type[Model], **hints: Any) -> str | None:
        return None if model._meta.app_label in self.ours else "other"

    db_for_write = db_for_read


class AndTheLogs(OtherApps):
    """Keeps the logs there too."""

    ours = ("agentcore",)


def hosts(*listed: Any) -> dict[str, Any]:
    return {"CHANNEL_LAYERS": {"default": {"BACKEND": REDIS_LAYER, "CONFIG": {"hosts": list(listed)}}}}


def sqlite(**options: Any) -> dict[str, Any]:
    return {"DATABASES": {"default": {**SQLITE, "OPTIONS": {**SQLITE["OPTIONS"], **options}}}}  # type: ignore[dict-item]


def without(*apps: str) -> list[str]:
    from django.conf import settings

    return [app for app in settings.INSTALLED_APPS if app not in apps]


GOOD: dict[str, Any] = {
    "AGENTCORE": {},
    "RQ_QUEUES": {"agentcore": QUEUE},
    "RQ": {},
    **hosts({"address": "redis://localhost/0", "socket_timeout": None}),
    "DATABASES": {"default": SQLITE, "other": POSTGRES},
    "DEBUG": False,
    "ASGI_APPLICATION": "tests.asgi.application",
    "DATABASE_ROUTERS": [],
}

# Per id: settings it must complain of, each a little off the good ones.
BAD: dict[str, list[dict[str, Any]]] = {
    "agentcore.E001": [
        {"AGENTCORE": {"LEASE_SECOND": 1}},
        {"AGENTCORE": {"lease_seconds": 1}},
        {"AGENTCORE": {5: 1}},
        {"AGENTCORE": None},
        {"AGENTCORE": [("QUEUE", "x")]},
    ],
    "agentcore.E002": [
        *(
            {"AGENTCORE": {key: bad}}
            for key, kind in conf.KEYS.items()
            for bad in WRONG.get(kind, [None, [], "1", -1, True])
        ),
        {"AGENTCORE": {"LEASE_SECONDS": 0}},
        {"AGENTCORE": {"POISON_AFTER": 1.5}},
        {"AGENTCORE": {"QUEUE": ""}},
    ],
    "agentcore.E003": [
        {"AGENTCORE": {"ACCESS_POLICY": "no.such.Policy"}},
        {"AGENTCORE": {"ACCESS_POLICY": "nodots"}},
        {"AGENTCORE": {"ACCESS_POLICY": "agentcore.values.system.System"}},
        {"AGENTCORE": {"ACCESS_POLICY": f"{__name__}.Unfinished"}},
        {"AGENTCORE": {"ACCESS_POLICY": f"{__name__}.NoSuchName"}},
    ],
    "agentcore.E004": [{"INSTALLED_APPS": ("agentcore.streams",)}],
    "agentcore.E005": [{"AGENTCORE": {"FAILPOINTS": True}}],
    "agentcore.E006": [{"DATABASE_ROUTERS": [AndTheLogs()]}, {"DATABASE_ROUTERS": [f"{__name__}.AndTheLogs"]}],
    "agentcore.E007": [{"DATABASE_ROUTERS": [Replica()]}],
    "agentcore.E008": [
        {"ASGI_APPLICATION": "no.such.module"},
        {"ASGI_APPLICATION": "nodots"},
        {"ASGI_APPLICATION": "tests.asgi.no_such_name"},
        {"ASGI_APPLICATION": f"{__name__}.GOOD"},
        {"ASGI_APPLICATION": 5},
    ],
    "agentcore.E009": [
        {"AGENTCORE": {"STILL_ALLOWED": "no.such.function"}},
        {"AGENTCORE": {"STILL_ALLOWED": "agentcore.conf.KEYS"}},
    ],
    "agentcore.E010": [{"USE_TZ": False}],
    "agentcore.W001": [{"RQ_QUEUES": {}}, {"RQ_QUEUES": {"default": QUEUE}}, {"AGENTCORE": {"QUEUE": "other"}}],
    "agentcore.W002": [
        {"RQ_QUEUES": {"agentcore": {"URL": "redis://localhost/0"}}},
        {"RQ_QUEUES": {"agentcore": {**QUEUE, "SERIALIZER": "rq.serializers.DefaultSerializer"}}},
    ],
    "agentcore.W003": [{"RQ": {"JOB_CLASS": "agentcore.jobs.job.AgentcoreJob"}}],
    "agentcore.W004": [{"CHANNEL_LAYERS": {}}, {"CHANNEL_LAYERS": {"other": {"BACKEND": REDIS_LAYER}}}],
    "agentcore.W005": [{"CHANNEL_LAYERS": {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}}],
    "agentcore.W006": [
        hosts("redis://localhost/0"),
        hosts(("localhost", 6379)),
        hosts({"address": "redis://localhost/0"}),
        hosts({"address": "redis://localhost/0", "socket_timeout": 5}),
        hosts({"address": "a", "socket_timeout": None}, {"address": "b"}),
        {"CHANNEL_LAYERS": {"default": {"BACKEND": REDIS_LAYER}}},
    ],
    "agentcore.W007": [
        sqlite(transaction_mode="DEFERRED"),
        {
            "DATABASES": {
                "default": POSTGRES,
                "other": {**SQLITE, "OPTIONS": {"init_command": SQLITE["OPTIONS"]["init_command"]}},
            }
        },  # type: ignore[index]
    ],
    "agentcore.W008": [
        sqlite(init_command=""),
        sqlite(init_command="PRAGMA journal_mode=WAL"),
        sqlite(init_command="PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"),
    ],
    "agentcore.W009": [
        {"DATABASES": {"default": {**POSTGRES, "CONN_MAX_AGE": 60}}},
        {"DATABASES": {"default": {**POSTGRES, "CONN_MAX_AGE": None}}},
    ],
    "agentcore.W010": [{"AGENTCORE": {"JOB_TIMEOUT": 540}}, {"AGENTCORE": {"TOOL_TIMEOUT": 400}}],
    "agentcore.W011": [
        {"DATABASES": {"default": {"ENGINE": "django.db.backends.postgresql"}}},
        {"DATABASES": {"default": {**POSTGRES, "OPTIONS": {"options": "-c statement_timeout=5000"}}}},
    ],
}
# What looks like it and is fine.
FINE: list[dict[str, Any]] = [
    {},
    {"AGENTCORE": {"LEASE_SECONDS": 1, "POLL_SECONDS": 0.5, "QUEUE": "agentcore"}},
    {"AGENTCORE": {"MODEL_RETRIES": 0, "OUTPUT_RETRIES": 0, "FAILPOINTS": False}},
    {"RQ_QUEUES": {"agentcore": {**QUEUE, "SERIALIZER": "json"}}},
    {"CHANNEL_LAYERS": {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}, "DEBUG": True},
    {"CHANNEL_LAYERS": {"default": {"BACKEND": "my.own.Layer"}}},
    sqlite(init_command="pragma JOURNAL_MODE = wal;pragma synchronous = full;", transaction_mode="immediate"),
    {"DATABASES": {"default": {**POSTGRES, "CONN_MAX_AGE": 60}}, "ASGI_APPLICATION": None},
    {"DATABASES": {"default": POSTGRES}},
    {"DATABASES": {}},
    {"DATABASE_ROUTERS": [OtherApps()]},
]  # fmt: skip


def found(settings: LazySettings, values: Mapping[str, Any]) -> list[checks.CheckMessage]:
    """What agentcore's checks say of the good settings with these values among them."""
    for name, value in {**GOOD, **values}.items():
        setattr(settings, name, without(*value) if name == "INSTALLED_APPS" else value)
    messages = checks.run_checks(tags=["agentcore"], include_deployment_checks=True)
    return [message for message in messages if str(message.id).startswith("agentcore.")]


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
