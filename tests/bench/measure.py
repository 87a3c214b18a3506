"""What a checker costs: CPU per check, memory, time to the first probe and to a full pass."""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from farm import CHECKER_CPU, BenchError, Farm, running
from peers import Job, Peer


@dataclass(frozen=True)
class Sample:
    """One run of one checker.  Seconds, megabytes (2**20), microseconds of CPU per check.

    `rate` is checks per second as a share of what was asked for; `false_downs` counts servers
    that were declared down though none was.
    """

    cpu_us: float
    rate: float
    rss_mb: float
    first_probe: float
    full_pass: float
    false_downs: int


def process_tree(pid: int) -> list[int]:
    """`pid` and all its descendants."""
    found = [pid]
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            children = Path(f"/proc/{pid}/task/{task}/children").read_text().split()
            for child in children:
                found += process_tree(int(child))
    return found


def cpu_seconds(pids: Sequence[int], *, main_thread_only: bool = False) -> float:
    """CPU time that all threads of `pids`, or only the first of each, have used.

    Threads by the scheduler's clock; children that have ended, by their parent's account.
    """
    total = 0
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            tasks = [str(pid)] if main_thread_only else os.listdir(f"/proc/{pid}/task")
            for task in tasks:
                total += int(Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0])
            if not main_thread_only:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ticks += int(fields[13]) + int(fields[14])  # cutime, cstime
    return total / 1e9 + ticks / os.sysconf("SC_CLK_TCK")


def rss_megabytes(pids: Sequence[int]) -> float:
    """Resident memory of `pids`, pages that they share counted for each."""
    kilobytes = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Rss:"):
                    kilobytes += int(line.split()[1])
    return kilobytes / 1024


def wait_for_pass(farm: Farm, pid: int, base: int, checks: int, start: float) -> Iterator[float]:
    """Yield the moment of the first probe, then that of probe number `checks`."""
    deadline = start + 30 + checks / 150
    for wanted in (1, checks):
        while farm.connects() - base < wanted:
            if time.monotonic() > deadline:
                seen = farm.connects() - base
                raise BenchError(f"only {seen} of {checks} probes in {deadline - start:.0f} s")
            if not Path(f"/proc/{pid}/fd/0").exists():
                raise BenchError("the checker ended by itself")
            time.sleep(0.002)
        yield time.monotonic()


def sample(farm: Farm, peer: Peer, job: Job, *, warm: float, seconds: float) -> Sample:
    """Run `peer` on `job`: start, first full pass, `warm` seconds, then measure."""
    command = peer.prepare(job)
    count = len(job.targets)
    log = peer.directory / "stderr.log"
    base, start = farm.connects(), time.monotonic()
    with log.open("wb") as stderr:
        process = farm.start(command.argv, cpu=CHECKER_CPU, env=command.env, stderr=stderr)
    with running(process):
        try:
            first, full = wait_for_pass(farm, process.pid, base, count, start)
        except BenchError as error:
            tail = log.read_text(errors="replace").strip().splitlines()[-3:]
            raise BenchError(f"{peer.name}: {error}; its last words: {' | '.join(tail)}") from error
        time.sleep(warm)
        pids = process_tree(process.pid)
        cpu, checks, began = cpu_seconds(pids), farm.connects(), time.monotonic()
        time.sleep(seconds)
        pids = process_tree(process.pid)
        cpu, checks = cpu_seconds(pids) - cpu, farm.connects() - checks
        elapsed = time.monotonic() - began
        memory = rss_megabytes(pids)
    lines = log.read_text(errors="replace").splitlines()
    downs = {endpoint for line in lines for endpoint in peer.went_down(line)} & set(job.targets)
    return Sample(
        cpu_us=cpu / max(1, checks) * 1e6,
        rate=checks / elapsed / count,
        rss_mb=memory,
        first_probe=first - start,
        full_pass=full - first,
        false_downs=len(downs),
    )


def interleaved(
    farm: Farm, peers: Sequence[Peer], job: Job, *, rounds: int, warm: float, seconds: float
) -> dict[str, list[Sample]]:
    """Samples of several checkers taken in turns (A B A B ...), by the name of the checker."""
    samples: dict[str, list[Sample]] = {peer.name: [] for peer in peers}
    for _ in range(rounds):
        for peer in peers:
            samples[peer.name].append(sample(farm, peer, job, warm=warm, seconds=seconds))
    return samples


def median(samples: Sequence[Sample]) -> Sample:
    """The median of every figure; of the false downs the greatest number."""
    return Sample(
        **{
            name: statistics.median(getattr(one, name) for one in samples)
            for name in ("cpu_us", "rate", "rss_mb", "first_probe", "full_pass")
        },
        false_downs=max(one.false_downs for one in samples),
    )


def paired_ratio(ours: Sequence[Sample], theirs: Sequence[Sample]) -> float:
    """CPU per check of ours over theirs, the median over neighbouring runs."""
    pairs = zip(ours, theirs, strict=True)
    return statistics.median(mine.cpu_us / other.cpu_us for mine, other in pairs)
