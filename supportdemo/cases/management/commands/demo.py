"""Start the whole demo: Redis, database, worker and web server, until Ctrl-C."""

from __future__ import annotations

import os
import signal
import tempfile
from argparse import ArgumentParser
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connection, connections

from agentcore.exceptions import ModelNotConfigured
from supportdemo.accounts.people import PEOPLE
from supportdemo.providers import choose_model, is_offline, label_of, require
from supportdemo.servers import RedisMissing, RedisServer
from supportdemo.stack import (
    ROOT,
    CannotStart,
    address,
    choose_port,
    environment,
    redis_for_demo,
    wait_until_it_answers,
    web_command,
    worker_command,
)
from supportdemo.supervisor import Output, Supervisor

REAL = "OPENAI_API_KEY, OPENROUTER_API_KEY or ANTHROPIC_API_KEY chooses a real one"


class Command(BaseCommand):
    """Run the demo in the foreground and leave nothing running."""

    help = "Start the support desk with everything it needs, until Ctrl-C."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take the address to listen on."""
        parser.add_argument("--host", default="127.0.0.1", help="Address to listen on (default: 127.0.0.1).")
        parser.add_argument(
            "--port", type=int, default=8000, help="Port, or the next free one (default: 8000); 0 for any."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Prepare, run, stop; Ctrl-C, SIGTERM and a closed terminal are all a good end."""
        self.output = Output(self.stdout._out)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler)  # until the supervisor takes over
        failure = ""
        interrupted = False
        try:
            with tempfile.TemporaryDirectory(prefix="supportdemo-") as directory:
                failure = self._run(Path(directory), options["host"], options["port"])
        except KeyboardInterrupt:
            interrupted = True
        except (CannotStart, RedisMissing, ModelNotConfigured) as error:
            raise CommandError(str(error)) from error
        self._say(f"{self._below_ctrl_c() if interrupted else ''}Stopped.")
        if failure:
            raise CommandError(failure)

    def _run(self, directory: Path, host: str, port: int) -> str:
        """Return why it ended, or an empty string if somebody wanted it to."""
        require(choose_model())  # before anything is started: every run would fail of it
        with redis_for_demo(directory) as (redis_url, server):
            self._say(f"Redis      {'private, ' if server else ''}{redis_url}")
            self._prepare_database()
            env = environment(redis_url)
            port = choose_port(host, port)
            supervisor = Supervisor(self.output)
            supervisor.add("web", web_command(host, port), env, ROOT)
            supervisor.add("worker", worker_command(), env, ROOT)
            self._say("Starting   web server and worker …")
            problems: list[str] = []
            ended = supervisor.run(
                lambda: self._watch(supervisor, address(host, port), server, problems),
                lambda: self._say(f"{self._below_ctrl_c()}Stopping …"),
            )
        if ended is not None:
            name, status = ended
            how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
            return f"The {name} process {how}{_last_lines(supervisor, name)}. Everything else was stopped."
        return problems[0] if problems else ""

    def _prepare_database(self) -> None:
        name = connection.settings_dict["NAME"]
        self._say(f"Database   {connection.vendor}, {os.path.relpath(name) if connection.vendor == 'sqlite' else name}")
        self._say("Preparing  tables, logins, orders and articles …")
        call_command("migrate", verbosity=0, interactive=False)
        call_command("seed_demo", stdout=self.output)
        connections.close_all()  # the processes to come must not inherit a connection

    def _watch(self, supervisor: Supervisor, url: str, server: RedisServer | None, problems: list[str]) -> None:
        """Say where the desk is once it answers; end everything if it never does, or if its Redis dies."""
        if wait_until_it_answers(f"{url}accounts/login/", lambda: supervisor.stopping):
            self._welcome(url)
        elif not supervisor.stopping:
            problems.append(f"The web server did not answer in time{_last_lines(supervisor, 'web')}.")
            supervisor.stop()
            return
        if server is not None:
            status = server.process.wait()
            if not supervisor.stopping:
                tail = "\n".join(server.log.read_text(errors="replace").splitlines()[-5:])
                problems.append(f"Redis ended with status {status}; everything else was stopped.\n{tail}")
                supervisor.stop()

    def _welcome(self, url: str) -> None:
        model = choose_model()
        hint = f"; {REAL}" if is_offline(model) else ""
        logins = "\n".join(f"    {f'{person.name} / {person.password}':<14}{person.role}" for person in PEOPLE)
        self._say(
            f"\n  The support desk is open:  {url}\n\n  Log in as\n{logins}\n\n"
            f"  Model: {label_of(model)}{hint}\n  Ctrl-C stops everything.\n"
        )

    def _below_ctrl_c(self) -> str:
        return "\n" if self.output.isatty() else ""  # the terminal has written ^C

    def _say(self, text: str) -> None:
        with suppress(OSError):
            self.output.write(f"{text}\n")
            self.output.flush()


def _last_lines(supervisor: Supervisor, name: str) -> str:
    return "; its last lines stand above" if supervisor.has_lines_of(name) else ""
