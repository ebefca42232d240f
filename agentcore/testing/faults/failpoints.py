"""Failpoints for the processes a test starts; see `agentcore.failpoints` for those of its own process."""

from __future__ import annotations

from pathlib import Path

from ...failpoints import DIRECTORY_VARIABLE, SPEC_VARIABLE, Marks, armed, parse

__all__ = ["Marks", "armed", "failpoint_environment"]


def failpoint_environment(directory: Path | str, **actions: str) -> dict[str, str]:
    """Return the environment in which processes meet these failpoints; each fires once in all that share `directory`.

    Raises `ValueError` for a point or an action that does not exist.
    """
    spec = ";".join(f"{name}={action}" for name, action in actions.items())
    parse(spec)
    return {SPEC_VARIABLE: spec, DIRECTORY_VARIABLE: str(directory)}
