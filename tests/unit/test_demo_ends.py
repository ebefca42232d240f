"""The demo's page knows every code that a run can end with, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import agentcore
from agentcore import exceptions
from agentcore.engine import snapshot
from agentcore.exceptions import ModelError, RunError, UserError
from agentcore.values.finish import ENDS

PACKAGE = Path(agentcore.__file__).parent
PAGE = Path(__file__).resolve().parents[2] / "static" / "demo" / "ends.js"
FAILURES = {"RunError", "ModelError", "LimitReached", "Hook"}
ENDINGS = {"end", "over"}
# What stands for a code elsewhere, and where the codes it can be come from.
PASSED_ON = {
    "code": (),  # of a caller that is read here too, or of `failures`: those of SENTENCES
    "error.run_code": (),
    "hook.code": (),  # of a Hook, which is read here too
    "reason.code": (),  # of a UserError
    "refusal.code": tuple(end.fails for end in ENDS.values() if end.fails),  # or a guard's, with a sentence of its own
    "verdict.code": (),  # a guard's, with a sentence of its own
    "fault.code": snapshot.NOT_TAKEN,
}
# The page has a sentence of its own for the one; the other is raised to whoever drives the run, which it leaves alone.
NEVER_A_FAILURE = {"canceled", "inside_transaction"}
KINDS_ONLY = {"run_error", "limit_reached"}  # raised with a code of the case, and never without


def sources() -> Iterator[ast.Call]:
    """Every call in the package but in its tools for tests."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if "testing" not in path.parts:
            yield from (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))


def name_of(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def code_of(call: ast.Call) -> ast.expr | None:
    return next((item.value for item in call.keywords if item.arg == "code"), None)


def written() -> set[str]:
    """The codes that stand where the package fails or ends a run."""
    found = [code_of(call) for call in sources() if name_of(call) in FAILURES | ENDINGS]
    expressions = {ast.unparse(code) for code in found if code is not None and not isinstance(code, ast.Constant)}
    assert expressions == set(PASSED_ON)
    said = {str(code.value) for code in found if isinstance(code, ast.Constant)}
    return said.union(*PASSED_ON.values())


def kinds(of: type[Exception]) -> set[str]:
    """The codes of an exception and of those of its kind."""
    found = (item for item in vars(exceptions).values() if isinstance(item, type) and issubclass(item, of))
    return {str(item.code) for item in found}  # type: ignore[attr-defined]


def codes() -> set[str]:
    """All codes with which a run can fail."""
    found = written() | kinds(RunError) | kinds(UserError) | set(ModelError.SENTENCES)
    return found - NEVER_A_FAILURE - KINDS_ONLY


def test_the_page_has_a_way_out_for_every_code_a_run_fails_with_and_for_no_other() -> None:
    (table,) = re.findall(r"^const WAYS = \{(.*?)^\};", PAGE.read_text(), re.M | re.S)
    shown = re.findall(r"(\w+):", re.sub(r'"[^"]*"', '""', table))
    assert len(shown) == len(set(shown))
    assert set(shown) == codes()
