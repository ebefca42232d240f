"""The house rules a machine can check: who may import whom, and who may open transactions, write SQL, set a status."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.tools.cycles import circles
from tests.tools.sources import Module, called_name, read_package

PACKAGE = "agentcore"
FLOORS: dict[int, set[str]] = {
    1: {"values", "conf", "exceptions", "states", "failpoints"},
    2: {"database"},
    3: {"declaration", "providers", "mcp"},
    4: {"streams", "models"},
    5: {"access", "journal"},
    6: {"engine"},
    7: {"services"},
    8: {"agent", "jobs", "realtime", "web", "admin", "testing", "templatetags"},
    9: {"apps", "checks", "urls", "routing", "management", "migrations"},
}
FLOOR_OF = {room: floor for floor, rooms in FLOORS.items() for room in rooms}
# Floors whose files make up one room: their files may use each other, in one direction.
SHARED_FLOORS = {1, 2, 3, 9}
NEIGHBOURS = {("models", "streams")}

SDKS = {
    "openai", "anthropic", "pydantic_ai", "google", "vertexai", "mistralai", "cohere", "groq", "ollama",
    "litellm", "boto3", "botocore", "langchain", "langchain_core", "llama_index", "huggingface_hub", "together",
}  # fmt: skip
MCP = {"mcp", "mcp_types"}
QUEUE = {"rq", "django_rq"}
LAYER = {"channels", "channels_redis", "daphne"}
QUEUE_ROOMS = ("agentcore.services.dispatch", "agentcore.jobs")
LAYER_ROOMS = ("agentcore.streams.hub", "agentcore.realtime", "agentcore.routing")
ATOMIC_ROOMS = ("agentcore.services", "agentcore.journal", "agentcore.engine.steps.body", "agentcore.streams.log")
SQL_ROOMS = (
    "agentcore.database",
    "agentcore.journal",
    "agentcore.streams.log",
    "agentcore.services.creating",  # the statement that adds to a thread
    "agentcore.services.dispatch",  # what a run's row notes of hints
    "agentcore.testing.faults.checker.backends",  # looks at the server, never at a run
)

PUBLIC = {
    f"{PACKAGE}.{name}"
    for name in (
        "access", "exceptions", "mcp", "models", "providers", "providers.pydantic_ai", "routing", "states", "urls",
        "web.requests",
    )
} | {PACKAGE}  # fmt: skip
WRITES = {"update", "aupdate", "create", "acreate", "update_or_create", "get_or_create", "bulk_update", "save", "asave"}


@dataclass(frozen=True)
class Violation:
    """One place that breaks one rule."""

    rule: str
    path: Path
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}: {self.message}"


def check(root: Path) -> list[Violation]:
    """Every violation in the `agentcore` and `supportdemo` packages below `root`."""
    modules = read_package(root, PACKAGE)
    found = [*_circles(modules)]
    for module in modules.values():
        found += [*_floors(module), *_foreign(module)]
        if room_of(module.name) != "migrations" and ".migrations." not in module.name:
            found += [*_transactions(module), *_sql(module), *_statuses(module)]
    for module in read_package(root, "supportdemo").values():
        found += _public(module, modules)
    return sorted(dict.fromkeys(found), key=lambda violation: (str(violation.path), violation.line))


def room_of(name: str) -> str:
    """The room a dotted name belongs to: `streams` for `agentcore.streams.hub`, empty for the package itself."""
    return name.split(".")[1] if "." in name else ""


def is_public(module: str) -> bool:
    """Whether a project may import from a module of the package."""
    return module in PUBLIC or _within(module, (f"{PACKAGE}.testing",))


def _within(name: str, rooms: tuple[str, ...]) -> bool:
    return any(name == room or name.startswith(room + ".") for room in rooms)


def _floors(module: Module) -> Iterator[Violation]:
    room = room_of(module.name)
    if not room:
        return  # the package's own file hands out public names lazily, from every floor
    if room not in FLOOR_OF:
        yield Violation("room", module.path, 1, f"{room} has no floor; the house has no such room")
        return
    for imported in module.imports:
        if imported.target.split(".")[0] != PACKAGE:
            continue
        other = room_of(imported.target)
        if other == room:
            continue
        if not other:
            message = "imports the package's public names, which are made of it"
            yield Violation("floor", module.path, imported.line, message)
            continue
        if other not in FLOOR_OF:
            continue  # said once, where it stands
        mine, theirs = FLOOR_OF[room], FLOOR_OF[other]
        if theirs > mine:
            message = f"{room} (floor {mine}) imports {imported.target} (floor {theirs})"
            yield Violation("floor", module.path, imported.line, message)
        elif theirs == mine and mine not in SHARED_FLOORS and (room, other) not in NEIGHBOURS:
            yield Violation("neighbour", module.path, imported.line, f"{room} imports its neighbour {other}")


def _circles(modules: dict[str, Module]) -> Iterator[Violation]:
    graph = {name: {item.target for item in module.imports} & set(modules) for name, module in modules.items()}
    graph.pop(PACKAGE, None)
    for circle in circles(graph):
        yield Violation("circle", modules[circle[0]].path, 1, " -> ".join([*circle, circle[0]]))


def _foreign(module: Module) -> Iterator[Violation]:
    for imported in module.imports:
        library = imported.target.split(".")[0]
        if library in SDKS and not _within(module.name, (f"{PACKAGE}.providers.{library}",)):
            yield Violation("sdk", module.path, imported.line, f"{library} belongs to providers/{library}")
        if library in MCP and not _within(module.name, (f"{PACKAGE}.mcp",)):
            yield Violation("sdk", module.path, imported.line, f"{library} belongs to mcp/")
        if library in QUEUE and not _within(module.name, QUEUE_ROOMS):
            yield Violation("queue", module.path, imported.line, f"{library} belongs to services/dispatch.py and jobs/")
        if library in LAYER and not _within(module.name, LAYER_ROOMS):
            message = f"{library} belongs to streams/hub.py, realtime/ and routing.py"
            yield Violation("layer", module.path, imported.line, message)


def _transactions(module: Module) -> Iterator[Violation]:
    if _within(module.name, ATOMIC_ROOMS):
        return
    for node in ast.walk(module.tree):
        imports = isinstance(node, ast.ImportFrom) and any(alias.name == "atomic" for alias in node.names)
        if imports or (isinstance(node, ast.Attribute) and node.attr == "atomic"):
            message = "transactions open in services/, journal/, engine/steps/body.py and streams/log.py"
            yield Violation("atomic", module.path, getattr(node, "lineno", 1), message)


def _sql(module: Module) -> Iterator[Violation]:
    if _within(module.name, SQL_ROOMS):
        return
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and _is_sql(node):
            message = (
                "raw SQL stands in journal/, database/, streams/log.py, services/creating.py and services/dispatch.py"
            )
            yield Violation("sql", module.path, node.lineno, message)


def _is_sql(node: ast.Call) -> bool:
    name = called_name(node)
    if name in {"cursor", "executemany", "raw", "RawSQL", "Statement"}:
        return True
    if name not in {"execute", "extra"} or not isinstance(node.func, ast.Attribute):
        return False
    receiver = node.func.value
    on_cursor = isinstance(receiver, ast.Name) and receiver.id in {"cursor", "connection", "conn", "cur"}
    return on_cursor or bool(node.args and isinstance(node.args[0], (ast.JoinedStr, ast.Constant)))


def _statuses(module: Module) -> Iterator[Violation]:
    if FLOOR_OF.get(room_of(module.name), 0) not in {8, 9}:
        return
    for node in ast.walk(module.tree):
        if _sets_status(node):
            line = getattr(node, "lineno", 1)
            yield Violation("status", module.path, line, "a status changes in the engine and in services only")


def _sets_status(node: ast.AST) -> bool:
    if isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return any(
            isinstance(part, ast.Attribute) and part.attr == "status" for item in targets for part in ast.walk(item)
        )
    if not isinstance(node, ast.Call):
        return False
    name = called_name(node)
    if name == "setattr":
        return any(isinstance(word, ast.Constant) and word.value == "status" for word in node.args)
    words = [part for value in (*node.args, *(item.value for item in node.keywords)) for part in ast.walk(value)]
    by_name = any(isinstance(part, ast.Constant) and part.value == "status" for part in words)
    return name in WRITES and (by_name or any(keyword.arg == "status" for keyword in node.keywords))


def _public(module: Module, core: dict[str, Module]) -> Iterator[Violation]:
    for imported in module.imports:
        if imported.target.split(".")[0] != PACKAGE:
            continue
        target = imported.target
        while target not in core and "." in target:
            target = target.rpartition(".")[0]
        if not is_public(target):
            yield Violation("public", module.path, imported.line, f"{target} is not a public name of agentcore")


def main() -> int:
    """Print what breaks the rules in this repository; the exit status says whether anything does."""
    root = Path(__file__).resolve().parent.parent.parent
    violations = check(root)
    for violation in violations:
        print(f"{violation.path.relative_to(root)}:{violation.line}: {violation.rule}: {violation.message}")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
