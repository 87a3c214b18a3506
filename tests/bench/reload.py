"""What a reload of 10,000 checks costs, seen from outside: CPU, gaps in checks, lost state."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from farm import BenchError, Farm, target_address
from latency import checking, finish, helper
from listeners import RECORDER_PORT, read_record
from measure import cpu_seconds, process_tree
from peers import Job, Lbhealth

WINDOW = 5.0
PATIENCE = 15.0
STATE = ("health", "admin", "weight", "since")
CLOCK_NOISE = 0.05  # of `since`, which is a monotonic time told as wall-clock time


@dataclass(frozen=True)
class Reload:
    """One reload.  Seconds.

    `cpu` and `loop_cpu` (all threads, the first thread) are what was used beyond the cost of
    as many checks at rest.  `silence` is the longest time without any check at any target,
    `gap` the longest between two checks of one target, `answer` the slowest answer of the API,
    with their values at rest.
    """

    change: str
    cpu: float
    loop_cpu: float
    silence: float
    silence_at_rest: float
    gap: float
    answer: float
    answer_at_rest: float
    lost: int


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(str(self._path))


class Pinger:
    """Asks `/healthz` every few milliseconds: an answer waits as long as the loop is held."""

    def __init__(self, path: Path) -> None:
        self.slowest = 0.0
        self._path = path
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with contextlib.closing(UnixConnection(self._path)) as connection:
            while not self._stop.wait(0.005):
                start = time.monotonic()
                connection.request("GET", "/healthz")
                connection.getresponse().read()
                self.slowest = max(self.slowest, time.monotonic() - start)

    def result(self) -> float:
        """Stop and tell the slowest answer."""
        self._stop.set()
        self._thread.join()
        return self.slowest


def status(peer: Lbhealth) -> dict[str, Any]:
    """`lbhealth status --json`; like this program, away from the checker's CPU."""
    result = subprocess.run(
        [*peer.command, "status", "--json", "--api", f"unix:{peer.api}"],
        capture_output=True,
        check=False,
    )
    if result.returncode != 0:
        raise BenchError(f"lbhealth status: {result.stderr.decode(errors='replace').strip()}")
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def server_states(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """What a reload must not lose, for every server of every service."""
    return {
        (service["service"], real["server"]): {name: real[name] for name in STATE}
        for service in document["services"]
        for real in service["real"]
    }


def same(before: dict[str, Any], after: dict[str, Any] | None) -> bool:
    """Whether a server's state survived."""
    if after is None or abs(before["since"] - after["since"]) > CLOCK_NOISE:
        return False
    return all(before[name] == after[name] for name in STATE if name != "since")


def settled(peer: Lbhealth, job: Job) -> dict[tuple[str, str], dict[str, Any]]:
    """Every server's state, as soon as the single weights of `job` and no others are there."""
    wanted = {name_of(job, index): weight for index, weight in job.weights.items()}
    deadline = time.monotonic() + PATIENCE
    while True:
        states = server_states(status(peer))
        found = {
            key[1]: state["weight"]["applied"]
            for key, state in states.items()
            if state["weight"]["applied"] != 1
        }
        if found == wanted:
            return states
        if time.monotonic() > deadline:
            raise BenchError(f"weights are {found} {PATIENCE:g} s after a reload, not {wanted}")
        time.sleep(0.5)


def wait_until_up(peer: Lbhealth, count: int) -> None:
    """Wait until every server is up."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(BenchError):
            states = server_states(status(peer))
            if sum(state["health"] == "up" for state in states.values()) == count:
                return
        time.sleep(1)
    raise BenchError(f"not all {count} servers came up in 30 s")


@dataclass(frozen=True)
class Usage:
    """CPU seconds of all threads and of the first thread, and the checks made meanwhile."""

    total: float
    loop: float
    checks: int

    def above(self, rest: Usage) -> tuple[float, float]:
        """CPU beyond what as many checks cost at rest (checks left out must not hide it)."""
        share = self.checks / max(1, rest.checks)
        return self.total - rest.total * share, self.loop - rest.loop * share


def used(farm: Farm, pid: int, seconds: float) -> Usage:
    """What is used in the coming `seconds`."""
    total, checks = cpu_seconds(process_tree(pid)), farm.connects()
    loop = cpu_seconds([pid], main_thread_only=True)
    time.sleep(seconds)
    return Usage(
        cpu_seconds(process_tree(pid)) - total,
        cpu_seconds([pid], main_thread_only=True) - loop,
        farm.connects() - checks,
    )


def longest_silence(moments: Sequence[float], begin: float, end: float) -> float:
    """The longest time without a check between `begin` and `end`."""
    inside = [moment for moment in moments if begin <= moment <= end]
    return max((b - a for a, b in pairwise([begin, *inside, end])), default=0.0)


def longest_gap(record: Sequence[tuple[float, int]], begin: float, end: float) -> float:
    """The longest time between two checks of one target between `begin` and `end`."""
    last: dict[int, float] = {}
    worst = 0.0
    for moment, address in record:
        if begin <= moment <= end:
            worst = max(worst, moment - last.get(address, moment))
            last[address] = moment
    return worst


def name_of(job: Job, index: int) -> str:
    """`ADDRESS:PORT` of a target."""
    address, port = job.targets[index]
    return f"{address}:{port}"


def one_reload(
    farm: Farm, pid: int, peer: Lbhealth, job: Job, new: Job, change: str
) -> tuple[Reload, tuple[float, float, float]]:
    """Reload twice from `job` to `new` and back: once for CPU, once under a pinger.

    Returns the figures (gaps still to be filled in from the record) and the three moments
    that part rest, reload and the end.
    """
    before = settled(peer, job)
    time.sleep(1)
    rest_began = time.monotonic()
    rest = used(farm, pid, WINDOW)
    peer.write(new)
    reload_began = time.monotonic()
    os.kill(pid, signal.SIGHUP)
    cpu, loop_cpu = used(farm, pid, WINDOW).above(rest)
    ended = time.monotonic()
    after = settled(peer, new)
    lost = 0
    # a changed weight is the one difference that is wanted
    wanted = {name_of(new, index): weight for index, weight in new.weights.items()}
    for key, state in before.items():
        weight = wanted.get(key[1], state["weight"]["applied"])
        weights = {"configured": weight, "feedback": None, "applied": weight}
        if not same(state | {"weight": weights}, after.get(key)):
            lost += 1
            print(f"lost in the reload: {key[1]}: {state} -> {after.get(key)}", file=sys.stderr)
    pinger = Pinger(peer.api)
    time.sleep(WINDOW)
    answer_at_rest = pinger.result()
    peer.write(job)
    pinger = Pinger(peer.api)
    time.sleep(0.05)
    os.kill(pid, signal.SIGHUP)
    time.sleep(WINDOW)
    figures = Reload(
        change=change,
        cpu=cpu,
        loop_cpu=loop_cpu,
        silence=0.0,
        silence_at_rest=0.0,
        gap=0.0,
        answer=pinger.result(),
        answer_at_rest=answer_at_rest,
        lost=lost,
    )
    return figures, (rest_began, reload_began, ended)


def reloads(farm: Farm, peer: Lbhealth, count: int, rounds: int, per_service: int) -> list[Reload]:
    """SIGHUP with the same file and with one changed weight, `rounds` times each."""
    targets = tuple((target_address(index), RECORDER_PORT) for index in range(count))
    job = Job("connect", targets, per_service)
    changed = job.with_weight(count // 2, 7)
    path = farm.dir / "record"
    path.unlink(missing_ok=True)
    runs: list[tuple[Reload, tuple[float, float, float]]] = []
    with helper(farm, "recorder", "connect", str(path)) as recorder:
        with checking(farm, peer, job) as (pid, _):
            wait_until_up(peer, count)
            for _ in range(rounds):
                runs.append(one_reload(farm, pid, peer, job, job, "nothing"))
                runs.append(one_reload(farm, pid, peer, job, changed, "one weight"))
        finish(recorder)
    record = read_record(path)
    moments = [moment for moment, _ in record]
    return [
        Reload(
            **{
                **vars(figures),
                "silence": longest_silence(moments, middle, end),
                "silence_at_rest": longest_silence(moments, begin, middle),
                "gap": longest_gap(record, begin, end),
            }
        )
        for figures, (begin, middle, end) in runs
    ]
