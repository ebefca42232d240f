"""A project in which the blocks of a page are applied in order, as a reader would apply them."""

from __future__ import annotations

import configparser
import doctest
import json
import re
import shlex
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Self
from uuid import uuid4

from agentcore.realtime import frames
from agentcore.values import events
from supportdemo.servers import free_port
from tests.docs.pages import Block
from tests.stack import Process, wait_for

CHECKED = """
import io
from django.core.management import call_command
call_command("check", fail_level="ERROR", stdout=io.StringIO(), stderr=io.StringIO())
"""
READER = Path(__file__).with_name("reader.py")
ADDRESS = re.compile(r"(?:127\.0\.0\.1|localhost):8000")
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
SECONDS = 200.0  # only what hangs takes that long
ENDING_SECONDS = 60.0


@dataclass(frozen=True)
class Server:
    """A command that goes on until it is told to end."""

    command: re.Pattern[str]
    ready: str  # what it says when it is, or "" where it answers HTTP
    port: str = ""  # how it is told another port than 8000, which may be taken on this machine


SERVERS = (
    Server(re.compile(r"manage\.py agentcore_worker(?!.*--burst)"), "drives up to"),
    Server(re.compile(r"manage\.py agentcore_sweep .*--loop"), "sweeps every"),
    Server(re.compile(r"manage\.py rqworker"), "Listening on"),
    Server(re.compile(r"manage\.py runserver"), "", " {port}"),
    Server(re.compile(r"^(\S*/)?uvicorn "), "", " --port {port}"),
    Server(re.compile(r"^(\S*/)?daphne "), "", " --port {port}"),
)


class Project:
    """A directory that the pages' commands run in, with the processes that they leave running."""

    def __init__(self, directory: Path, env: Mapping[str, str], database: str = "SQLite") -> None:
        self.directory = directory
        self.database = database
        # For what a killed worker leaves. Short: the path of a socket has room for some hundred characters.
        self._temporary = Path(tempfile.mkdtemp())
        self.env = {**env, "TMPDIR": str(self._temporary)}
        self.port = free_port()
        self.processes: list[tuple[Server, Process]] = []
        self._shell: subprocess.Popen[str] | None = None
        self._logs = directory.parent / f"{directory.name}-logs"
        self._logs.mkdir(exist_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    # --- blocks --------------------------------------------------------------------------------------------------

    def follow(self, blocks: Iterable[Block]) -> None:
        """Apply the blocks that are meant for this project's database, in order; the first that fails says where."""
        for block in blocks:
            if block.illustration or not block.is_for(self.database):
                continue
            try:
                self.apply(block)
            except AssertionError as error:
                raise AssertionError(f"{block.where}:\n{block.text}\n{error}\n{self.tails()}") from error

    def apply(self, block: Block) -> None:
        """Do what the block says; raises `AssertionError` where that does not come out as the page has it."""
        if block.file:
            self.write(block)
        elif block.language in APPLIED:
            APPLIED[block.language](self, block)
        else:
            raise AssertionError(f"Nobody knows what to do with a block of {block.language!r} that names no file.")

    def write(self, block: Block) -> None:
        """Create the file, or add to it; a shell that runs knows the old one, so it ends."""
        path = self.directory / block.file
        assert not block.at_the_end or path.exists(), f"there is no {block.file} to add to"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text((path.read_text() + "\n" if block.at_the_end else "") + self._local(block.text))
        self._end_shell()

    def commands(self, block: Block) -> None:
        """Run each line."""
        for line in block.text.replace("\\\n", " ").splitlines():
            if line.strip() and not line.lstrip().startswith("#"):
                self.command(line)

    def session(self, block: Block) -> None:
        """Run what stands behind each `$`, and compare what it says with the lines below it."""
        assert block.text.startswith("$ "), "a console block begins with a command"
        for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
            line, _, wanted = part.partition("\n")
            self.command(line, wanted)

    def examples(self, block: Block) -> None:
        """Play the examples of a Python shell, in the one that the block before has left open."""
        if self._shell is None:
            self._shell = self._popen('python manage.py shell --verbosity 0 -c "$READER"', READER=READER.read_text())
        assert self._shell.stdin and self._shell.stdout
        self._shell.stdin.write(json.dumps({"where": block.where, "text": block.text}) + "\n")
        self._shell.stdin.flush()
        answer = self._shell.stdout.readline()
        assert answer, f"the shell has ended:\n{(self._logs / 'shell.log').read_text()}"
        trouble = json.loads(answer)
        assert not trouble, trouble

    def unit(self, block: Block) -> None:
        """Start what a unit of systemd starts."""
        parser = configparser.ConfigParser()
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read_string(block.text if "[Service]" in block.text else f"[Service]\n{block.text}")
        service = parser["Service"]
        self.command(
            f"env {service['Environment']} {service['ExecStart']}" if "Environment" in service else service["ExecStart"]
        )

    def sample(self, block: Block) -> None:
        """See that it is JSON of the protocol: an event of a log, or a frame that a client may send."""
        value = json.loads(block.text)
        if "seq" in value:
            kinds = {kind.type: kind for kind in vars(events).values() if _is_event(kind)}
            known = {item.name: item.default is MISSING for item in fields(kinds[value["type"]])}
            needed = {name for name, is_needed in known.items() if is_needed}
            assert needed <= set(value) - {"v", "seq", "type", "ts"} <= known.keys()
            assert value["v"] == events.VERSION
        else:
            assert frames.parse(re.sub("0190…", lambda _: str(uuid4()), block.text))

    # --- commands ------------------------------------------------------------------------------------------------

    def command(self, line: str, wanted: str = "") -> str:
        """Run a command to its end, or start one that has none; returns what it said."""
        line = self._local(line).replace("/srv/shop/.venv/bin/", "").replace("/srv/shop", str(self.directory))
        for server in SERVERS:
            if server.command.search(line):
                return self._serve(server, line, wanted)
        said = self.run(line)
        if wanted:
            _compare(wanted, said)
        return said

    def run(self, line: str, **env: str) -> str:
        """Run a command to its end and return what it said; fails with that where it failed."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", line],
            cwd=self.directory,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
        )
        assert done.returncode == 0, f"{line}\nended with {done.returncode}:\n{done.stdout}"
        return done.stdout

    def python(self, code: str) -> str:
        """Run a piece of Python in the project's shell, outside any page, and return what it printed.

        The project's checks, which must find no error, come first: for the time it takes a process to start.
        """
        return self.run(f"python manage.py shell --verbosity 0 -c {shlex.quote(CHECKED + code)}")

    def get(self, path: str, timeout: float = 5) -> tuple[int, bytes]:
        """Ask the web server that runs."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=timeout) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def _serve(self, server: Server, line: str, wanted: str) -> str:
        if server.port:  # the one before holds the port, so a reader ends it
            self.stop(lambda other: bool(other.port))
            if str(self.port) not in line:
                line += server.port.format(port=self.port)
        log = self._logs / f"{len(self.processes)}.log"
        process = Process(line, ["bash", "-c", f"exec {line}"], self.env, log, cwd=self.directory)
        self.processes.append((server, process))
        ready = self._answers if server.port else lambda: server.ready in process.text
        wait_for(lambda: not process.alive or ready(), SECONDS, f"a sign of life from {line}")
        assert process.alive, f"{line} has ended:\n{process.text}"
        if wanted:
            wait_for(lambda: _fits(f"{wanted}...", process.text), 10, f"{line} to say {wanted!r}, not {process.text!r}")
        return process.text

    def _answers(self) -> bool:
        try:
            self.get("/")
        except OSError:
            return False
        return True

    def _local(self, text: str) -> str:
        """The text with the port that this project's server really has."""
        return ADDRESS.sub(f"127.0.0.1:{self.port}", text)

    def _popen(self, line: str, **env: str) -> subprocess.Popen[str]:
        with (self._logs / "shell.log").open("ab") as log:
            return subprocess.Popen(
                ["bash", "-c", f"exec {line}"],
                cwd=self.directory,
                env={**self.env, **env},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    # --- the end -------------------------------------------------------------------------------------------------

    def stop(self, which: Callable[[Server], bool] = lambda server: True) -> None:
        """End the servers: workers and sweepers as the pages say, which must work; web servers at once."""
        ending = [(server, process) for server, process in self.processes if which(server)]
        self.processes = [item for item in self.processes if item not in ending]
        trouble = []
        for server, process in ending:
            if server.port:
                process.kill9()
            elif (status := process.sigterm(ENDING_SECONDS)) != 0:
                trouble.append(f"{process.name} ended with {status}:\n{process.text}")
        assert not trouble, "\n".join(trouble)

    def close(self) -> None:
        """End everything that was started here, however it takes it."""
        self._end_shell()
        for _, process in self.processes:
            process.kill9()
        self.processes = []
        shutil.rmtree(self._temporary, ignore_errors=True)

    def tails(self) -> str:
        """The end of what the processes wrote."""
        return "\n".join(process.tail() for _, process in self.processes)

    def _end_shell(self) -> None:
        if self._shell is not None:
            with self._shell as shell:  # closes its input, which ends it, and waits
                self._shell = None
                assert shell.stdin
                shell.stdin.close()


APPLIED: dict[str, Callable[[Project, Block], None]] = {
    "sh": Project.commands,
    "console": Project.session,
    "pycon": Project.examples,
    "ini": Project.unit,
    "json": Project.sample,
}


def _is_event(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, events.Event) and kind is not events.Event


def _fits(wanted: str, said: str) -> bool:
    return doctest.OutputChecker().check_output(wanted, said, FLAGS)


def _compare(wanted: str, said: str) -> None:
    assert _fits(wanted, said), f"The page has\n{wanted}\nand it says\n{said}"
