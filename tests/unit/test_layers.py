"""The house keeps its floors, and the test that says so notices when it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tools.layers import check

ROOT = Path(__file__).resolve().parent.parent.parent
pytestmark = pytest.mark.once

FORBIDDEN = {
    "a lower floor imports a higher one": ("floor", "agentcore/engine/loop.py", "from agentcore.services import runs"),
    "a relative import goes up": ("floor", "agentcore/values/parts.py", "from ..models import Thread"),
    "an import inside a function goes up": ("floor", "agentcore/states.py", "def f():\n    import agentcore.agent"),
    "a dynamic import goes up": ("floor", "agentcore/values/usage.py", "import_module('agentcore.models')"),
    "a type goes up": (
        "floor",
        "agentcore/engine/loop.py",
        "if TYPE_CHECKING:\n    import agentcore.services",
    ),
    "models ask who may see them": ("floor", "agentcore/models/run.py", "from ..access import get_policy"),
    "product code imports the testing tools": ("neighbour", "agentcore/agent.py", "from agentcore.testing import X"),
    "a module imports the public package": ("floor", "agentcore/agent.py", "from agentcore import SYSTEM"),
    "streams knows of agents": ("floor", "agentcore/streams/log.py", "from agentcore.engine import loop"),
    "streams imports its neighbour": ("neighbour", "agentcore/streams/log.py", "from agentcore.models import Run"),
    "the engine imports dispatch": ("floor", "agentcore/engine/loop.py", "from agentcore.services import dispatch"),
    "the web imports the agent": ("neighbour", "agentcore/web/api.py", "from ..agent import Agent"),
    "a room nobody planned": ("room", "agentcore/helpers.py", "pass"),
    "types go in a circle": ("circle", "agentcore/values/parts.py", "if TYPE_CHECKING:\n    from .usage import Usage"),
    "two modules import each other": ("circle", "agentcore/values/parts.py", "from .usage import Usage"),
    "a provider's SDK in the core": ("sdk", "agentcore/engine/steps/model.py", "import openai"),
    "the SDK of MCP outside its room": ("sdk", "agentcore/engine/steps/tools.py", "import mcp_types"),
    "an SDK in another provider's file": ("sdk", "agentcore/providers/pydantic_ai.py", "import openai"),
    "the queue outside its rooms": ("queue", "agentcore/services/runs.py", "import django_rq"),
    "channels outside its rooms": ("layer", "agentcore/web/api.py", "from channels.layers import get_channel_layer"),
    "a transaction in the web": ("atomic", "agentcore/web/api.py", "with transaction.atomic():\n    pass"),
    "a transaction by its bare name": ("atomic", "agentcore/jobs/job.py", "from django.db.transaction import atomic"),
    "SQL in a service": ("sql", "agentcore/services/runs.py", "connection.cursor()"),
    "a statement of many rows in a service": ("sql", "agentcore/services/runs.py", "bulk.Statement('SELECT 1', [])"),
    "SQL without a cursor of its own": ("sql", "agentcore/engine/loop.py", "c.execute('SELECT 1')"),
    "a view assigns a status": ("status", "agentcore/web/api.py", "run.status = 'failed'"),
    "a consumer updates a status": ("status", "agentcore/realtime/consumers.py", "runs.update(status='failed')"),
    "the admin saves a status": ("status", "agentcore/admin/runs.py", "run.save(update_fields=['status'])"),
    "the demo reaches into the engine": ("public", "supportdemo/cases/agents.py", "from agentcore.engine import loop"),
    "the demo knows a room": ("public", "supportdemo/cases/views.py", "from agentcore.values.parts import TextPart"),
    "the demo reaches into services": ("public", "supportdemo/cases/views.py", "import agentcore.services.runs"),
}
ALLOWED = {
    "a lower floor is used": "from agentcore.values.parts import TextPart\nfrom agentcore.models import Run",
    "its own room is used": "from . import drive\nfrom .drive import Drive",
    "a run is executed, which is not SQL": "services.runs.execute(run)",
}


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A small tree with every room the cases speak of, and nothing wrong in it."""
    files = {
        "__init__.py": "",
        "values/__init__.py": "",
        "values/parts.py": "",
        "values/usage.py": "from . import parts",
        "states.py": "",
        "agent.py": "",
        "models/__init__.py": "from agentcore.streams.models import Stream",
        "streams/models.py": "",
        "streams/log.py": "from django.db import transaction\ntransaction.atomic()",
        "streams/hub.py": "import channels",
        "engine/__init__.py": "",
        "journal/claim.py": "cursor.execute('UPDATE')",
        "engine/loop.py": "",
        "services/__init__.py": "",
        "services/dispatch.py": "import rq",
        "services/runs.py": "from . import dispatch",
        "jobs/job.py": "import rq",
        "web/api.py": "",
        "testing/__init__.py": "",
        "providers/openai.py": "import openai",
    }
    for name, text in files.items():
        write(tmp_path / "agentcore" / name, text)
    write(tmp_path / "supportdemo" / "cases" / "agents.py", "from agentcore import Agent\nimport agentcore.testing")
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.covers("dj:TX-1")
def test_the_house_keeps_its_floors() -> None:
    assert [str(violation) for violation in check(ROOT)] == []


def test_a_tidy_tree_is_accepted(house: Path) -> None:
    assert check(house) == []


@pytest.mark.covers("dj:TX-1")
@pytest.mark.parametrize("rule, file, code", FORBIDDEN.values(), ids=FORBIDDEN.keys())
def test_a_forbidden_line_is_refused(house: Path, rule: str, file: str, code: str) -> None:
    write(house / file, code)
    assert rule in {violation.rule for violation in check(house)}


@pytest.mark.parametrize("code", ALLOWED.values(), ids=ALLOWED.keys())
def test_a_line_that_only_looks_forbidden_is_accepted(house: Path, code: str) -> None:
    write(house / "agentcore/engine/loop.py", code)
    assert check(house) == []
