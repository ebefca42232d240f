"""An environment with the wheel and what its metadata asks for, taken from the environment that runs the tests."""

from __future__ import annotations

import os
import sys
import venv
from collections.abc import Iterable
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement

from tests.programs import output

OURS = {"PYTHONPATH", "DJANGO_SETTINGS_MODULE", "DATABASE_URL", "REDIS_URL", "AGENTCORE_TEST_DIR"}


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command far from the source tree, without anything of this test run's environment."""
    clean = {name: value for name, value in os.environ.items() if name not in OURS}
    return output(command, cwd=cwd, env=clean)


def make(directory: Path, wheel: Path) -> Path:
    """Make the environment and return its interpreter; fails where pip finds a requirement that is not met.

    The wheel is installed. What it depends on is linked from here, where it is unpacked and compiled already, in the
    versions of `constraints.txt`: nothing else of this environment can be imported there.
    """
    venv.create(directory, with_pip=False, symlinks=True)
    python = directory / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
    run(*pip, "install", "--quiet", "--no-index", "--no-deps", wheel, cwd=directory)
    (packages,) = directory.glob("lib/python*/site-packages")
    (installed,) = distributions(path=[str(packages)])
    for needed in required(installed.requires or []):
        _link(needed, packages)
    assert "No broken requirements found." in run(*pip, "check", cwd=directory)
    return python


def required(requirements: Iterable[str]) -> list[Distribution]:
    """Return the distributions that these ask for, and what those ask for in turn."""
    found: dict[tuple[str, str], Distribution] = {}
    open_ = [(Requirement(line), "") for line in requirements]
    while open_:
        requirement, extra = open_.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        for asked in {"", *requirement.extras} - {extra for name, extra in found if name == requirement.name}:
            found[requirement.name, asked] = distribution(requirement.name)
            open_ += [(Requirement(line), asked) for line in found[requirement.name, asked].requires or []]
    return list(found.values())


def _link(needed: Distribution, packages: Path) -> None:
    tops = {path.parts[0] for path in needed.files or []} - {"..", "__pycache__"}
    for top in tops:  # a package that several distributions put files into is one directory
        if not (packages / top).exists():
            (packages / top).symlink_to(Path(str(needed.locate_file(top))).absolute())
