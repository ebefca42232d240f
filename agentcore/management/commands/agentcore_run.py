"""`manage.py agentcore_run support "text"`: run an agent from a terminal."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections

from ...access import SYSTEM, get_policy, visible_approvals
from ...declaration import registry
from ...engine.drive import Outcome
from ...exceptions import AgentcoreError, UnknownAgent
from ...models import Approval, Run
from ...services import approvals, events, execution, sending, threads
from ...services.approvals import Decision, Verdict
from ...states import RunStatus
from ...values import jsontext

PAUSE = 0.1  # seconds between two looks at the log
WIDTH = 400


class Command(BaseCommand):
    """Sends a message to an agent, drives the run in this process and prints its events."""

    help = "Run an agent from this terminal: print its events, and ask for approvals at the prompt."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("agent", help="the agent's name, as its agents.py declares it")
        parser.add_argument("text", help="the message")
        parser.add_argument("--user", help="run for this user (by user name); without it, for nobody")
        parser.add_argument("--thread", help="go on in this thread; without it, in a new one")
        parser.add_argument("--approver", help="decide as this user, by the project's policy; without it, as SYSTEM")
        answer = parser.add_mutually_exclusive_group()
        answer.add_argument("--approve", action="store_const", const="approve", dest="answer")
        answer.add_argument("--deny", action="store_const", const="deny", dest="answer")
        answer.add_argument("--ask", action="store_const", const="ask", dest="answer", help="the default")
        parser.set_defaults(answer="ask")

    def handle(self, *args: Any, **options: Any) -> None:
        """Drive the run to its end; exits with 1 when it fails or is canceled, or waits for something else."""
        try:
            run = self._start(options)
            self._drive(run, options["answer"], _user(options["approver"]))
        except AgentcoreError as error:
            raise CommandError(error.message) from error

    def _start(self, options: dict[str, Any]) -> Run:
        user = _user(options["user"])
        try:
            definition = registry.get(options["agent"])
        except UnknownAgent as error:
            known = ", ".join(registry.names()) or "none"
            raise CommandError(f"There is no agent called {options['agent']!r}. Known: {known}.") from error
        if user is SYSTEM:
            self.stdout.write("Running for nobody; --user NAME runs it for a person.")
        thread = options["thread"] or threads.create(user=user, title=options["text"][:80])
        return sending.send(definition, thread, options["text"], user=user)

    def _drive(self, run: Run, answer: str, approver: Any) -> None:
        """Drive the run, or watch the worker that got hold of it first, from one approval to the next."""
        printer = Printer(run, self.stdout.write)
        told = ""
        while not run.terminal:
            with printer:
                outcome = execution.drive(run.pk)
            run.refresh_from_db()
            waiting = list(Approval.objects.filter(run=run).pending().select_related("tool_call"))
            if run.status == RunStatus.WAITING and waiting:
                _check_may_decide(approver, run, waiting)
                approvals.decide([self._decide(run, item, answer) for item in waiting], user=approver)
            elif run.status == RunStatus.WAITING:
                raise CommandError(f"The run waits for: {', '.join(run.waiting_reasons())}. Answer it in the admin.")
            elif outcome is Outcome.NOTHING and not run.terminal:
                told = self._wait(run, told)
        printer.show_new()
        if run.status != RunStatus.SUCCEEDED:
            raise CommandError(f"The run is {run.status}. {run.error_detail or run.error_message}".strip())

    def _wait(self, run: Run, told: str) -> str:
        """Wait a moment for whoever has the run, saying once why; raises where it would never be this run's turn."""
        ahead = Run.objects.ahead_of(run).first()
        if run.status == RunStatus.PENDING and ahead is not None:
            raise CommandError(
                f"Run {ahead} ({ahead.pk}) of this thread is {ahead.status}, and goes first. Answer, finish or cancel "
                f"it. Run {run} ({run.pk}) stays in the queue: a worker takes it after that, or cancel it too."
            )
        why = ""
        if run.status == RunStatus.RUNNING:
            why = f"Worker {run.worker} drives the run; waiting for it."
        elif run.available_at is not None:
            why = f"The run is due again at {run.available_at:%H:%M:%S} UTC; waiting."
        if why and why != told:
            self.stdout.write(jsontext.visible(why))
        time.sleep(PAUSE)
        return why or told

    def _decide(self, run: Run, approval: Approval, answer: str) -> Decision:
        """Answer an approval as the options say, or as the person at the prompt does."""
        call = approval.tool_call
        verdict: Verdict = "approve" if answer == "approve" else "deny"
        reason = "Decided on the command line."
        if answer == "ask":
            self.stdout.write(f"\n{call.name} {jsontext.visible(approval.arguments)}")
            try:
                verdict = "approve" if input("Approve this call? [y/N] ").strip().lower() in ("y", "yes") else "deny"
                reason = input("Reason (may be empty): ").strip() if verdict == "deny" else reason
            except EOFError as error:
                raise CommandError(f"Nobody is at the prompt. Say --approve or --deny. {_still_waits(run)}") from error
            except KeyboardInterrupt as error:
                self.stdout.write("")  # the terminal has written ^C
                raise CommandError(_still_waits(run)) from error
        return Decision(approval.pk, verdict, approval.digest, reason)


class Printer:
    """Prints a run's events from a thread of its own while the block lasts, in order, each once."""

    def __init__(self, run: Run, write: Callable[..., Any]) -> None:
        self._run = run
        self._write = write
        self._after = -1
        self._in_text = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Printer:
        self._stop.clear()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def show_new(self) -> None:
        """Print what the log holds beyond what was printed."""
        page = events.read(self._run, user=SYSTEM, after=self._after)
        while page.events:
            for event in page.events:
                self._show(event)
            self._after = page.next_after
            page = events.read(self._run, user=SYSTEM, after=self._after)

    def _follow(self) -> None:
        try:
            while not self._stop.wait(PAUSE):
                self.show_new()
            self.show_new()
        finally:
            connections.close_all()

    def _show(self, event: dict[str, Any]) -> None:
        if event["type"] == "text.delta":
            if event.get("begins"):
                self._write("\n\n", ending="")
            self._write(jsontext.visible(event["text"], keep="\n\t"), ending="")
            self._in_text = True
            return
        if self._in_text:
            self._write("")
            self._in_text = False
        about = {key: value for key, value in event.items() if key not in ("v", "seq", "type", "ts")}
        self._write(jsontext.visible(f"{event['seq']:>5} {event['type']:<18} {jsontext.canonical(about)}"[:WIDTH]))


def _check_may_decide(approver: Any, run: Run, waiting: list[Approval]) -> None:
    """Raise before anybody is asked for an answer that would be refused."""
    if approver is SYSTEM:
        return
    seen = set(visible_approvals(approver).filter(run=run).values_list("pk", flat=True))
    if not all(item.pk in seen and get_policy().may_decide(approver, item) for item in waiting):
        raise CommandError(f"{approver.get_username()} may not decide on this run's approvals. {_still_waits(run)}")


def _still_waits(run: Run) -> str:
    return f"Run {run} ({run.pk}) still waits. Decide it in the admin, or cancel it there."


def _user(name: str | None) -> Any:
    if name is None:
        return SYSTEM
    model = get_user_model()
    try:
        return model._default_manager.get_by_natural_key(name)
    except model.DoesNotExist as error:
        raise CommandError(f"There is no user called {name!r}.") from error
