"""What a check of each protocol costs inside the engine.  See README.md beside this file.

.venv/bin/python tests/bench/protocols.py [--quick] [--only imap,...] [--markdown]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import importlib
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

from farm import CHECKER_CPU, FARM_CPU, target_address  # noqa: E402
from report import number, table  # noqa: E402

from lbhealth.engine.monitor import Monitor  # noqa: E402
from lbhealth.engine.runner import run_check  # noqa: E402
from lbhealth.engine.running import RunningCheck  # noqa: E402
from lbhealth.model import (  # noqa: E402
    Check,
    Checker,
    Schedule,
    Target,
    Verdict,
    transport_of,
)

INTERVAL = 10.0
TIMEOUT = 3.0
SHORT_TIMEOUT = 0.5
SILENT = 20
SILENT_SECONDS = 3.5
GOAL = 0.05
"""Seconds: for the slot lag (p99) and for what a time-out may come late (worst)."""

USER = {"login": "watch", "password": "s3cret"}
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "https": ("lbhealth.checkers.http", "Https", {"body": "OK"}),
    "ftp": ("lbhealth.checkers.ftp", "Ftp", {**USER, "request": "healthy", "receive": "OK"}),
    "imap": ("lbhealth.checkers.imap", "Imap", USER),
    "pop": ("lbhealth.checkers.pop", "Pop", USER),
    "smtp": ("lbhealth.checkers.smtp", "Smtp", {}),
    "nntp": ("lbhealth.checkers.nntp", "Nntp", {"group": "a.b"}),
    "ldap": ("lbhealth.checkers.ldap", "Ldap", {"request": "dc=a"}),
    "mysql": ("lbhealth.checkers.mysql", "Mysql", USER),
    "pgsql": ("lbhealth.checkers.pgsql", "Pgsql", USER),
    "dns": ("lbhealth.checkers.dns", "Dns", {"request": "www.example.org", "receive": "192.0.2"}),
    "sip": ("lbhealth.checkers.sip", "Sip", {"login": "hc@example.org"}),
    "radius": ("lbhealth.checkers.radius", "Radius", {**USER, "secret": "shared one"}),
    "telnet": ("lbhealth.checkers.telnet", "Telnet", {"receive": "login:"}),
    "simpletcp": (
        "lbhealth.checkers.simpletcp",
        "SimpleTcp",
        {"request": "ping\\n", "receive": "pong"},
    ),
    "external": ("lbhealth.checkers.external", "External", {"command": "/bin/true"}),
    "redis": ("lbhealth_redis.checker", "Redis", {}),
}
"""The checker of each protocol: its module, its class and its settings."""


class Steps:
    """The longest time for which one callback held the loop, while entered."""

    def __init__(self) -> None:
        self.longest = 0.0

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Time every callback of the loop."""
        run = asyncio.Handle._run

        def timed(handle: asyncio.Handle) -> None:
            began = time.perf_counter()
            run(handle)
            self.longest = max(self.longest, time.perf_counter() - began)

        asyncio.Handle._run = timed  # type: ignore[method-assign]
        try:
            yield
        finally:
            asyncio.Handle._run = run  # type: ignore[method-assign]


class Punctual(Monitor):
    """A monitor that keeps the lag of every slot."""

    def __init__(self, on_change: Callable[..., None]) -> None:
        super().__init__(on_change)
        self.lags: list[float] = []

    def _tick(self) -> None:
        super()._tick()
        self.lags.append(self.lag.latest)


def checker_of(name: str, **settings: Any) -> Checker:
    """The checker of a protocol, with other settings if any are given."""
    module, kind, usual = CASES[name]
    return getattr(importlib.import_module(module), kind)(**{**usual, **settings})


def cpu() -> float:
    """Processor time of this process and of its children that have ended, in seconds."""
    return sum(
        used.ru_utime + used.ru_stime
        for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def waited() -> float:
    """For how long this process could have run and had no processor, in seconds."""
    return int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e9


def counted(checks: Sequence[RunningCheck]) -> dict[str, int]:
    """All results so far."""
    return {
        name: sum(getattr(running, name) for running in checks)
        for name in ("passes", "failures", "errors", "skipped")
    }


def quantile(values: Sequence[float], part: float) -> float:
    """The value below which `part` of them are."""
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


async def lateness(silent: Sequence[RunningCheck]) -> tuple[list[float], list[str]]:
    """What each time-out took beyond its time, and the results that were none."""
    seen = dict.fromkeys(range(len(silent)), 0)
    late: list[float] = []
    wrong: list[str] = []
    end = time.monotonic() + SILENT_SECONDS
    while time.monotonic() < end:
        await asyncio.sleep(0.02)
        for index, running in enumerate(silent):
            results = running.passes + running.failures + running.errors
            if results == seen[index]:
                continue
            seen[index] = results
            if "TOUT" in running.status:
                late.append(running.duration - SHORT_TIMEOUT)
            else:
                wrong.append(f"{running.status} {running.detail}")
    return late, wrong


async def measure(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Everything about one protocol; runs in a process of its own, on the checker's CPU."""
    checker = checker_of(name)
    protocol = transport_of(checker, None)
    schedule = Schedule(interval=INTERVAL, timeout=TIMEOUT, rise=1, fall=1, fast_interval=INTERVAL)
    targets = [
        Target(target_address(index), options["port"], protocol)
        for index in range(options["targets"])
    ]
    first, start = Steps(), Steps()
    with first.watched():  # with the libraries that a checker loads when it is first used
        result = await asyncio.create_task(run_check(checker, targets[0], 5.0))
    if result.verdict is not Verdict.PASS:
        return {"error": f"{result.verdict} {result.status} {result.detail}"}
    monitor = Punctual(lambda running, transition: None)
    gc.disable()  # as lbhealth itself does while it builds its checks
    checks = [monitor.add(Check(checker, target, schedule)) for target in targets]
    gc.freeze()
    gc.enable()
    with start.watched():
        monitor.start()
        began = time.monotonic()
        while (
            any(check.last is None for check in checks) and time.monotonic() < began + 2 * TIMEOUT
        ):
            await asyncio.sleep(0.05)
        first_pass = time.monotonic() - began
    start_lag = max(monitor.lags, default=0.0)
    await asyncio.sleep(1.0)
    monitor.lags.clear()
    before, used, queued, began = counted(checks), cpu(), waited(), time.monotonic()
    await asyncio.sleep(options["seconds"])
    after, used, took = counted(checks), cpu() - used, time.monotonic() - began
    queued = (waited() - queued) / took
    lags = list(monitor.lags)
    short = Schedule(interval=1.0, timeout=SHORT_TIMEOUT, rise=1, fall=1, fast_interval=1.0)
    mute = checker_of(name, command=options["sleeper"]) if name == "external" else checker
    silent = [
        monitor.add(Check(mute, Target(target_address(index), options["silent"], protocol), short))
        for index in range(SILENT)
    ]
    queued_late = waited()
    late, wrong = await lateness(silent)
    queued_late = (waited() - queued_late) / SILENT_SECONDS
    await monitor.aclose()
    return {
        "results": {key: after[key] - before[key] for key in after},
        "ever": after,
        "seconds": took,
        "cpu": used,
        "queued": (queued, queued_late),
        "lags": (quantile(lags, 0.99), max(lags)),
        "late": (statistics.median(late), max(late), len(late)) if late else None,
        "first": first.longest,
        "pass": first_pass,
        "start_lag": start_lag,
        "step": start.longest,
        "wrong": [c.describe() for c in checks if c.failures or c.errors][:1] + wrong[:1],
    }


def run(name: str, options: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """Measure one protocol: its peers on one CPU, the checker on the other."""
    certificate, sleeper = directory / "peer.pem", directory / "sleeper"
    given = {
        "port": 1,
        "silent": 1,
        "sleeper": str(sleeper),
        "targets": options.targets,
        "seconds": options.seconds,
    }
    with contextlib.ExitStack() as stack:
        if name != "external":
            peers = stack.enter_context(
                started([str(HERE / "scripted.py"), name, str(certificate)], FARM_CPU)
            )
            assert peers.stdout is not None
            ports = peers.stdout.readline()
            if not ports:
                return {"error": "the scripted peers did not start"}
            given |= json.loads(ports)
        command = [str(HERE / "protocols.py"), "--measure", json.dumps(given), "--only", name]
        checker = stack.enter_context(started(command, CHECKER_CPU))
        assert checker.stdout is not None
        found = checker.stdout.read()
    return json.loads(found) if found else {"error": "the checker broke down"}


@contextlib.contextmanager
def started(command: Sequence[str], cpu: int) -> Iterator[subprocess.Popen[bytes]]:
    """A Python program on a CPU of its own, which ends at the end of its input or by force."""
    process = subprocess.Popen(
        [sys.executable, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        preexec_fn=lambda: os.sched_setaffinity(0, {cpu}),
    )
    assert process.stdin is not None
    try:
        yield process
        process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
    finally:
        process.kill()
        process.wait()


def prepare(directory: Path) -> None:
    """A certificate for the peers, and a program that says nothing for long."""
    import trustme

    made = trustme.CA().issue_cert("server.example.org")
    made.private_key_and_cert_chain_pem.write_to_path(str(directory / "peer.pem"))
    sleeper = directory / "sleeper"
    sleeper.write_text("#!/bin/sh\nexec sleep 5\n")
    sleeper.chmod(0o755)


def judged(value: float, digits: int = 1, *, markdown: bool) -> str:
    """Milliseconds of a time that has a goal; a miss is marked."""
    text = number(value * 1000, digits)
    if value <= GOAL:
        return text
    return f"**{text}**" if markdown else f"{text} !"


def steady_line(name: str, found: dict[str, Any], *, markdown: bool) -> list[str]:
    """A line of the table of the steady run."""
    results, late = found["results"], found["late"]
    checks = results["passes"] + results["failures"] + results["errors"]
    p99, worst = found["lags"]
    return [
        name,
        number(checks / found["seconds"]),
        number(found["cpu"] / checks * 1e6, 0) if checks else "-",
        judged(p99, markdown=markdown),
        number(worst * 1000),
        number(found["queued"][0] * 100),
        str(results["passes"]),
        str(results["failures"] + results["errors"]),
        str(results["skipped"]),
        number(late[0] * 1000) if late else "-",
        judged(late[1], markdown=markdown) if late else "-",
        number(found["queued"][1] * 100),
    ]


def start_line(name: str, found: dict[str, Any]) -> list[str]:
    """A line of the table of the start."""
    ever = found["ever"]
    return [
        name,
        number(found["first"] * 1000),
        number(found["pass"], 2),
        number(found["start_lag"] * 1000),
        number(found["step"] * 1000),
        str(ever["failures"] + ever["errors"]),
    ]


STEADY = (
    "protocol", "checks/s", "CPU µs/check", "slot lag p99 ms", "worst ms", "waited %",
    "passes", "failures", "left out", "time-out late by, median ms", "worst ms", "then waited %",
)  # fmt: skip
START = (
    "protocol", "first check held the loop ms", "first pass s", "slot lag worst ms",
    "longest callback ms", "failures up to the end",
)  # fmt: skip


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(CASES), help="protocols, comma-separated")
    parser.add_argument("--seconds", type=float, help="length of the steady run of each (20)")
    parser.add_argument("--targets", type=int, default=1000)
    parser.add_argument("--quick", action="store_true", help="8 s each")
    parser.add_argument("--markdown", action="store_true", help="tables for README.md")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.names = options.only.split(",")
    if unknown := set(options.names) - set(CASES):
        parser.error(f"unknown protocol {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    options.seconds = options.seconds or (8.0 if options.quick else 20.0)
    return options


def main() -> None:
    """Measure what was asked for and print the tables."""
    options = parse()
    if options.measure:
        print(json.dumps(asyncio.run(measure(options.only, json.loads(options.measure)))))
        return
    if (os.cpu_count() or 1) < 2:
        sys.exit(
            "cannot run here; a second CPU is missing (the peers must not share the checker's)"
        )
    steady, start = [], []
    with tempfile.TemporaryDirectory(prefix="lbbench-") as directory:
        prepare(Path(directory))
        for name in options.names:
            if importlib.util.find_spec(CASES[name][0].partition(".")[0]) is None:
                print(f"{name} is left out: {CASES[name][0]} is not installed", file=sys.stderr)
                continue
            found = run(name, options, Path(directory))
            if "error" in found:
                print(f"{name}: {found['error']}", file=sys.stderr)
                continue
            for words in found["wrong"]:
                print(f"{name}: {words}", file=sys.stderr)
            steady.append(steady_line(name, found, markdown=options.markdown))
            start.append(start_line(name, found))
            print(" ".join(steady[-1]), file=sys.stderr, flush=True)
    print(f"\n{options.targets} checks every {INTERVAL:g} s, for {options.seconds:g} s\n")
    print(table(STEADY, steady, markdown=options.markdown))
    print("\nThe start: every check once within about a second\n")
    print(table(START, start, markdown=options.markdown))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nstopped")
