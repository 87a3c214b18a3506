"""How soon a death is noticed, and whether silent servers make the checks of others late."""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import IO

from farm import CHECKER_CPU, FARM_CPU, BenchError, Farm, running, target_address
from listeners import (
    KILLABLE_ADDRESS,
    KILLABLE_PORT,
    RECORDER_PORT,
    SILENT_PORT,
    read_record,
)
from measure import wait_for_pass
from peers import HERE, Endpoint, Job, Kind, Peer, farm_targets

INTERVAL = 1.0
SLOT = 0.05


@dataclass(frozen=True)
class Detection:
    """Seconds from the death of a server to the decision; `missed` were never decided."""

    killed: int
    missed: int
    median: float
    p90: float
    p99: float
    worst: float


@dataclass(frozen=True)
class Punctuality:
    """Deviation of checks from the grid of their own target, in seconds.

    `skipped` counts checks that did not come at all.
    """

    checks: int
    p99: float
    worst: float
    skipped: int


def quantile(values: Sequence[float], share: float) -> float:
    """The nearest-rank quantile of sorted `values`."""
    return values[min(len(values) - 1, int(share * len(values)))]


class DownLog:
    """Reads a checker's output as it comes and notes when each server was declared down."""

    def __init__(self, peer: Peer, stream: IO[bytes]) -> None:
        self.times: dict[Endpoint, list[float]] = defaultdict(list)
        self._thread = threading.Thread(target=self._read, args=(peer, stream), daemon=True)
        self._thread.start()

    def _read(self, peer: Peer, stream: IO[bytes]) -> None:
        for line in stream:
            now = time.monotonic()
            for endpoint in peer.went_down(line.decode(errors="replace")):
                self.times[endpoint].append(now)

    def join(self) -> None:
        """Wait for the end of the output."""
        self._thread.join(5)


@contextlib.contextmanager
def helper(farm: Farm, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run listeners.py with `arguments`; it has begun to listen when this returns."""
    process = farm.start(
        [sys.executable, str(HERE / "listeners.py"), *arguments],
        cpu=FARM_CPU,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with running(process):
        assert process.stdout is not None
        if process.stdout.readline() != b"ready\n":
            raise BenchError("listeners.py did not start")
        yield process


@contextlib.contextmanager
def checking(farm: Farm, peer: Peer, job: Job) -> Iterator[tuple[int, DownLog]]:
    """Run `peer` on `job`; its first full pass is over when this returns."""
    command = peer.prepare(job)
    base, start = farm.connects(), time.monotonic()
    process = farm.start(
        command.argv,
        cpu=CHECKER_CPU,
        env=command.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    with running(process):
        log = DownLog(peer, process.stdout)
        for _ in wait_for_pass(farm, process.pid, base, len(job.targets), start):
            pass
        yield process.pid, log
    log.join()


def detection(farm: Farm, peer: Peer, kind: Kind, count: int, victims: int) -> Detection:
    """Close `victims` of `count` servers at random moments."""
    doomed = tuple((KILLABLE_ADDRESS, KILLABLE_PORT + index) for index in range(victims))
    job = Job(kind, doomed + farm_targets(count - victims))
    killed: dict[Endpoint, float] = {}
    with (
        helper(farm, "killable", str(victims), kind) as servers,
        checking(farm, peer, job) as (_, log),
    ):
        assert servers.stdin is not None
        assert servers.stdout is not None
        time.sleep(3)
        servers.stdin.write(b"go\n")
        servers.stdin.flush()
        for _ in range(victims):
            port, moment = servers.stdout.readline().split()
            killed[KILLABLE_ADDRESS, int(port)] = float(moment)
        time.sleep(3 * INTERVAL + 1)
    delays = sorted(
        min(after) - moment
        for endpoint, moment in killed.items()
        if (after := [seen for seen in log.times[endpoint] if seen > moment])
    )
    if not delays:
        raise BenchError(f"{peer.name}: no decision was seen in its output")
    return Detection(
        killed=len(killed),
        missed=len(killed) - len(delays),
        median=statistics.median(delays),
        p90=quantile(delays, 0.9),
        p99=quantile(delays, 0.99),
        worst=delays[-1],
    )


def punctuality(record: Sequence[tuple[float, int]]) -> Punctuality:
    """How far the checks in `record` are from one check a second for each target."""
    by_target: dict[int, list[float]] = defaultdict(list)
    for moment, address in record:
        by_target[address].append(moment)
    deviations: list[float] = []
    skipped = 0
    for moments in by_target.values():
        phase = moments[0] % INTERVAL
        shifts = [(moment - phase + INTERVAL / 2) % INTERVAL for moment in moments]
        middle = statistics.median(shifts)
        deviations += [abs(shift - middle) for shift in shifts]
        skipped += sum(
            max(0, round((later - earlier) / INTERVAL) - 1) for earlier, later in pairwise(moments)
        )
    if not deviations:
        raise BenchError("no check of a healthy server was seen")
    deviations.sort()
    return Punctuality(len(deviations), quantile(deviations, 0.99), deviations[-1], skipped)


def silence(
    farm: Farm, peer: Peer, count: int, silent: int, seconds: float
) -> tuple[Punctuality, int]:
    """Lateness of the healthy among `count` HTTP servers of which `silent` never answer.

    Also returns how many of the healthy ones were declared down.
    """
    mute = tuple((target_address(index), SILENT_PORT) for index in range(silent))
    healthy = tuple((target_address(index), RECORDER_PORT) for index in range(silent, count))
    # mixed, so that silent and healthy servers share slots and services
    targets = tuple(sorted(mute + healthy, key=lambda end: end[0].split(".")[::-1]))
    path = farm.dir / "record"
    path.unlink(missing_ok=True)
    with helper(farm, "silent"), helper(farm, "recorder", "http", str(path)) as recorder:
        with checking(farm, peer, Job("http", targets)) as (_, log):
            time.sleep(5)  # the silent ones have timed out once
            began = time.monotonic()
            time.sleep(seconds)
            ended = time.monotonic()
        finish(recorder)
    record = [entry for entry in read_record(path) if began <= entry[0] <= ended]
    downs = sum(any(at < ended for at in log.times.get(one, ())) for one in healthy)
    return punctuality(record), downs


def finish(process: subprocess.Popen[bytes]) -> None:
    """Let a helper end by itself."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired as error:
        raise BenchError("listeners.py did not end") from error
