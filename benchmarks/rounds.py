"""Rounds: every case once, each in a process of its own, then all again, so that a noisy minute hits all alike."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import redis

from supportdemo.servers import die_with_parent

from .cases import Case
from .figures import Sample
from .servers import ROOT, Servers, environment

# A command before each case's, such as a profiler's.
WRAP = "BENCH_WRAP"
# No sweep may announce again the runs that wait on purpose.
PATIENT = {"HINT_GRACE_SECONDS": 3600.0}
SHOWN = ("runs_per_s", "p50_ms", "p99_ms", "worst_s")


@dataclass
class Outcome:
    """What all rounds gave, and what went wrong."""

    rounds: list[list[Sample]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def go(servers: Servers, cases: Sequence[Case], count: int) -> Outcome:
    """Do `count` rounds of the cases; a case that fails is told, and the others go on."""
    outcome = Outcome()
    for number in range(count):
        samples: list[Sample] = []
        for case in cases:
            if number >= case.most_rounds:
                continue
            print(f"round {number + 1}/{count}  {case.part} {case.name}, {case.store} … ", end="", flush=True)
            began = time.monotonic()
            try:
                found = once(servers, case)
            except RuntimeError as error:
                outcome.failures.append(f"{case.part} {case.name}, {case.store}, round {number + 1}: {error}")
                print("FAILED", flush=True)
                continue
            samples += found
            print(f"{_short(found)} ({time.monotonic() - began:.1f} s)", flush=True)
        outcome.rounds.append(samples)
    return outcome


def once(servers: Servers, case: Case) -> list[Sample]:
    """Run a case once, on a database of its own and an empty Redis; raises `RuntimeError` where it fails."""
    database = servers.fresh(case.store, case.content)
    with redis.Redis.from_url(servers.redis_url) as client:
        client.flushall()
    try:
        changed = {**(PATIENT if case.content.sent else {}), **case.settings}
        more = {"BENCH_AGENTCORE": json.dumps(changed)} if changed else {}
        said = _run(case, environment(database, servers.redis_url, **more))
    finally:
        servers.drop(database)
    return [Sample(**one) for one in json.loads(said)]


def _run(case: Case, env: dict[str, str]) -> str:
    """Run the process, and whatever it starts, to its end; return its last line."""
    process = subprocess.Popen(
        [*shlex.split(os.environ.get(WRAP, "")), *case.command],
        cwd=ROOT,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=die_with_parent(),
    )
    try:
        said, complaints = process.communicate(timeout=case.timeout)
    except subprocess.TimeoutExpired:
        _end(process)
        _, complaints = process.communicate()
        raise RuntimeError(f"not done after {case.timeout:g} s\n{complaints[-3000:]}") from None
    except BaseException:
        _end(process)
        raise
    # A profiler before the command may talk too.
    samples = [line for line in said.splitlines() if line.startswith("[")]
    if process.returncode or not samples:
        raise RuntimeError(f"exit {process.returncode}\n{complaints[-3000:]}")
    return samples[-1]


def _end(process: subprocess.Popen[str]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _short(samples: Sequence[Sample]) -> str:
    said = []
    for sample in samples:
        name = next((name for name in (*SHOWN, *sample.figures) if name in sample.figures), "")
        said.append(f"{sample.in_flight}: {sample.figures[name]:.4g} {name}" if name else "nothing")
    return ", ".join(said)
