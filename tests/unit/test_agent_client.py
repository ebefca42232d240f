"""The shipped browser client, its reducers and its transport, run by Node against a browser of straw."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
CLIENT = HERE.parents[1] / "agentcore" / "static" / "agentcore"
NODE = shutil.which("node")


FILES = ["agent_client.mjs", "agent_golden.mjs", "agent_rows.mjs", "agent_sending.mjs", "agent_state.mjs"]


@pytest.mark.once
@pytest.mark.skipif(NODE is None, reason="Node is not installed")
@pytest.mark.parametrize(
    "file", ["agent_client.mjs", "agent_golden.mjs", "agent_rows.mjs", "agent_sending.mjs", "agent_state.mjs"]
)
@pytest.mark.covers("ui:3", "ui:14", "ui:15", "fc:E1", "fc:B10", "fc:F4", "fc:F5")
def test_client_keeps_its_promises(file: str):
    done = subprocess.run([str(NODE), HERE / file, CLIENT], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.once
@pytest.mark.covers("dj:TPL-4")
def test_client_loads_nothing_from_elsewhere_and_evaluates_nothing():
    for file in CLIENT.glob("*.js"):
        source = file.read_text()
        for forbidden in (
            "http://",
            "https://",
            "eval(",
            "new Function",
            "innerHTML",
            "insertAdjacentHTML",
            "sourceMappingURL",
        ):
            assert forbidden not in source, f"{forbidden} in {file.name}"
