"""Run several programs together and end them together; honcho does the work, this adds what a terminal needs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from honcho.manager import SYSTEM_PRINTER_NAME, Manager
from honcho.printer import Message, Printer
from honcho.process import Popen, Process

from .servers import die_with_parent

ENDED = re.compile(r"(?P<name>\S+) stopped \(rc=(?P<status>-?\d+)\)")


class Output:
    """Standard output that may go away with its terminal; what nobody can read any more is dropped."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        """Write, or drop the text where there is no reader."""
        with suppress(OSError, ValueError):
            self._stream.write(text)

    def flush(self) -> None:
        """Flush, as far as there is somewhere to flush to."""
        with suppress(OSError, ValueError):
            self._stream.flush()

    def isatty(self) -> bool:
        """Whether colours make sense."""
        return self._stream.isatty()


class _OwnSession(Popen):  # type: ignore[misc]
    """A program in a session of its own that does not outlive its supervisor, nor its forks the program."""

    def __init__(self, cmd: str, **kwargs: Any) -> None:
        super().__init__(cmd, preexec_fn=die_with_parent(), stdin=subprocess.DEVNULL, **kwargs)
        # honcho reads until the output ends, and a fork of a dead program would hold it open.
        threading.Thread(target=self._end_with_program, name="end-with-program", daemon=True).start()

    def _end_with_program(self) -> None:
        self.wait()
        end_sessions({self.pid})


class _Program(Process):  # type: ignore[misc]
    """honcho's relay for one program; it stays when the terminal hangs up, and goes with its supervisor."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._child_ctor = _OwnSession

    def run(self, *args: Any, **kwargs: Any) -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        if arrange := die_with_parent():
            arrange()
        super().run(*args, **kwargs)


class _Lines(Printer):  # type: ignore[misc]
    """Prints what the programs say and notes who spoke and who ended first; honcho's own remarks are dropped."""

    ended: tuple[str, int] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.spoke: set[str] = set()

    def write(self, message: Message) -> None:
        if message.name != SYSTEM_PRINTER_NAME:
            self.spoke.add(message.name)
            super().write(message)
        elif self.ended is None and (found := ENDED.match(message.data)):
            self.ended = (found["name"], int(found["status"]))


class Supervisor(Manager):  # type: ignore[misc]
    """Runs programs until one ends or a signal comes, then ends all of them with whatever they forked."""

    def __init__(self, output: Output) -> None:
        self.lines = _Lines(output, time_format="%H:%M:%S")
        super().__init__(self.lines)
        self._process_ctor = _Program
        self._pid = os.getpid()
        self._asked_to_stop = False
        self._after_start: Callable[[], None] | None = None
        self._when_asked: Callable[[], None] | None = None

    def add(self, name: str, command: Iterable[str], env: Mapping[str, str], cwd: Path) -> None:
        """Add a program under the name that stands before each line it prints."""
        words = " ".join("'" + word.replace("'", "'\\''") + "'" for word in command)
        # Without `exec` the shell would be one more process between us and the program.
        self.add_process(name, f"exec {words}", env=dict(env), cwd=str(cwd))

    def run(
        self, after_start: Callable[[], None], when_asked: Callable[[], None] | None = None
    ) -> tuple[str, int] | None:
        """Run until the end; return the program that ended by itself and its status, or None for a signal.

        `after_start` runs in a thread of its own once all programs have been started, and `when_asked` in
        another as soon as a signal has come.
        """
        self._after_start, self._when_asked = after_start, when_asked
        signal.signal(signal.SIGHUP, self._hang_up)
        try:
            self.loop()
        finally:
            self._end_leftovers()
        return None if self._asked_to_stop else self.lines.ended

    @property
    def stopping(self) -> bool:
        """Whether the end has begun, asked for or not."""
        return self._asked_to_stop or self.lines.ended is not None

    def has_lines_of(self, name: str) -> bool:
        """Whether the program has printed anything."""
        return name in self.lines.spoke

    def stop(self) -> None:
        """End everything, from any thread, as Ctrl-C does."""
        os.kill(self._pid, signal.SIGTERM)

    def terminate(self) -> None:
        """End the programs; honcho cannot end one that it has not started yet, so such a wish waits."""
        if not self.stopping:
            self._asked_to_stop = True
            # A thread, because a signal handler may have interrupted somebody who is just printing.
            if self._when_asked is not None and os.getpid() == self._pid:
                threading.Thread(target=self._when_asked, name="when-asked").start()
        if self._all_started():
            super().terminate()

    def kill(self) -> None:
        """End what did not end when asked; a fork that holds a dead program's output open would keep honcho waiting."""
        super().kill()
        self._end_leftovers()

    def _system_print(self, data: str) -> None:
        super()._system_print(data)
        if self._asked_to_stop and not self._terminating:
            self.terminate()

    def _start(self) -> None:
        super()._start()
        if self._after_start is not None:
            threading.Thread(target=self._after_start, name="after-start", daemon=True).start()

    def _hang_up(self, number: int, frame: Any) -> None:
        if os.getpid() == self._pid:
            self.stop()

    def _end_leftovers(self) -> None:
        end_sessions({entry["pid"] for entry in self._processes.values() if "pid" in entry})


def end_sessions(sessions: set[int]) -> None:
    """Kill whatever still belongs to these sessions."""
    for pid in processes_of(sessions):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def processes_of(sessions: set[int]) -> list[int]:
    """Return the processes that still belong to these sessions: an RQ work horse outlives its killed worker."""
    if Path("/proc/self").exists():
        pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    else:
        listing = subprocess.run(["ps", "-A", "-o", "pid="], capture_output=True, text=True, check=True)
        pids = [int(word) for word in listing.stdout.split()]
    found = []
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            if os.getsid(pid) in sessions:
                found.append(pid)
    return found
