"""Benchmarks: lbhealth against HAProxy and keepalived.  See README.md beside this file.

.venv/bin/python tests/bench/run.py [--quick] [--only connect,http,...] [--markdown]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from farm import FARM_CPU, BenchError, Farm, missing_tools
from latency import SLOT, detection, silence
from measure import interleaved, median, paired_ratio, sample
from peers import HERE, Haproxy, Job, Keepalived, Kind, Lbhealth, Peer, farm_targets
from reload import reloads
from report import goals_table, number, table


@dataclass
class Bench:
    """One session: the farm, who can take part, what was found so far."""

    options: argparse.Namespace
    farm: Farm
    peers: list[Peer]
    lbhealth: Lbhealth | None
    figures: dict[str, float] = field(default_factory=dict)

    def show(self, title: str, headers: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
        """Print one table under its title."""
        mark = "### " if self.options.markdown else ""
        print(f"\n{mark}{title} (load {os.getloadavg()[0]:.1f})\n")
        print(table(headers, lines, markdown=self.options.markdown), flush=True)

    def attempt(self, peer: Peer, action: Callable[[], Sequence[str]]) -> Sequence[str] | None:
        """Give a line of a table, or say why there is none."""
        try:
            return action()
        except BenchError as error:
            print(f"{peer.name}: {error}", file=sys.stderr)
            return None


COST_HEADERS = (
    "checker", "N", "runs", "CPU µs/check", "min..max", "x HAProxy",
    "checks/s / N", "RSS MB", "first probe s", "first pass s", "false downs",
)  # fmt: skip


def cost(bench: Bench, kind: Kind) -> None:
    """CPU per check, rate, memory and start, for several N; HAProxy and lbhealth in turns."""
    options = bench.options
    lines: list[Sequence[str]] = []
    for count in options.sizes:
        job = Job(kind, farm_targets(count), options.per_service)
        pair = [peer for peer in bench.peers if not isinstance(peer, Keepalived)]
        try:
            samples = interleaved(
                bench.farm, pair, job, rounds=options.rounds, warm=2, seconds=options.seconds
            )
        except BenchError as error:
            print(f"{kind} N={count}: {error}", file=sys.stderr)
            continue
        # keepalived needs minutes for its first pass of many servers: one run, small N
        keepalived = [peer for peer in bench.peers if isinstance(peer, Keepalived)]
        for peer in keepalived if count <= 2000 else []:
            try:
                once = sample(bench.farm, peer, job, warm=2, seconds=options.seconds)
                samples[peer.name] = [once]
            except BenchError as error:
                print(f"{kind} N={count}: {error}", file=sys.stderr)
        for name, runs in samples.items():
            middle = median(runs)
            ratio = None
            if name != "haproxy" and "haproxy" in samples:
                theirs = samples["haproxy"][: len(runs)]
                ratio = paired_ratio(runs, theirs)
            spread = sorted(run.cpu_us for run in runs)
            lines.append(
                [
                    name,
                    str(count),
                    str(len(runs)),
                    number(middle.cpu_us),
                    f"{number(spread[0])}..{number(spread[-1])}",
                    "-" if ratio is None else number(ratio, 2),
                    number(middle.rate, 3),
                    number(middle.rss_mb),
                    number(middle.first_probe, 2),
                    number(middle.full_pass, 2),
                    str(middle.false_downs),
                ]
            )
            if name == "lbhealth":
                bench.figures |= {
                    f"{kind}.cpu.{count}": middle.cpu_us,
                    f"{kind}.rate.{count}": middle.rate,
                    f"{kind}.rss.{count}": middle.rss_mb,
                    f"{kind}.first.{count}": middle.first_probe,
                    f"{kind}.pass.{count}": middle.full_pass,
                }
                if ratio is not None:
                    bench.figures[f"{kind}.ratio.{count}"] = ratio
    bench.show(f"{kind}, interval 1 s", COST_HEADERS, lines)


def connect(bench: Bench) -> None:
    """Cost of connect checks."""
    cost(bench, "connect")


def http(bench: Bench) -> None:
    """Cost of HTTP checks."""
    cost(bench, "http")


def latency(bench: Bench) -> None:
    """Time from a server's death to the decision."""
    count, victims = (1000, 20) if bench.options.quick else (5000, 60)
    lines = []
    kinds: tuple[Kind, ...] = ("connect", "http")
    for kind in kinds:
        for peer in bench.peers:
            if isinstance(peer, Keepalived) and count > 2000:
                continue

            def measure(peer: Peer = peer, kind: Kind = kind) -> Sequence[str]:
                found = detection(bench.farm, peer, kind, count, victims)
                if peer.name == "lbhealth" and kind == "connect" and count == 5000:
                    bench.figures["detection.median"] = found.median
                    bench.figures["detection.p99"] = found.p99
                times = (found.median, found.p90, found.p99, found.worst)
                return [
                    peer.name, kind, str(count), str(found.killed), str(found.missed),
                    *(number(value * 1000, 0) for value in times),
                ]  # fmt: skip

            if line := bench.attempt(peer, measure):
                lines.append(line)
    bench.show(
        "Detection of a death, interval 1 s, fall 1, ms",
        ("checker", "check", "N", "killed", "unseen", "median", "p90", "p99", "max"),
        lines,
    )


def silent(bench: Bench) -> None:
    """Lateness of healthy servers' checks beside servers that accept and never answer."""
    seconds = 6 if bench.options.quick else 15
    lines = []
    for peer in bench.peers:
        for mute in (0, 200):

            def measure(peer: Peer = peer, mute: int = mute) -> Sequence[str]:
                found, downs = silence(bench.farm, peer, 1000, mute, seconds)
                if peer.name == "lbhealth" and mute:
                    bench.figures["silent.slots"] = found.worst / SLOT
                    bench.figures["silent.skipped"] = found.skipped
                return [
                    peer.name, "1000", str(mute), str(found.checks), number(found.p99 * 1000),
                    number(found.worst * 1000), number(found.worst / SLOT, 2),
                    str(found.skipped), str(downs),
                ]  # fmt: skip

            if line := bench.attempt(peer, measure):
                lines.append(line)
    bench.show(
        "Punctuality of healthy HTTP checks beside silent servers (deviation from the 1 s grid)",
        ("checker", "N", "silent", "checks", "p99 ms", "max ms", "max in slots of 50 ms",
         "left out", "healthy declared down"),
        lines,
    )  # fmt: skip


def reload(bench: Bench) -> None:
    """Cost of SIGHUP."""
    if bench.lbhealth is None:
        return
    count = 1000 if bench.options.quick else 10_000
    try:
        runs = reloads(
            bench.farm, bench.lbhealth, count, bench.options.rounds, bench.options.per_service
        )
    except BenchError as error:
        print(f"reload: {error}", file=sys.stderr)
        return
    lines = [
        [
            run.change,
            number(run.cpu, 3),
            number(run.loop_cpu, 3),
            number(run.silence * 1000, 0),
            number(run.silence_at_rest * 1000, 0),
            number(run.gap, 3),
            number(run.answer * 1000),
            number(run.answer_at_rest * 1000),
            str(run.lost),
        ]
        for run in runs
    ]
    unchanged = [run for run in runs if run.change == "nothing"]
    if count == 10_000:
        # where the API is slow at rest too, others use this CPU: no verdict then
        held = [run.answer - run.answer_at_rest for run in unchanged if run.answer_at_rest < 0.05]
        bench.figures["reload.cpu"] = statistics.median(run.loop_cpu for run in unchanged)
        if held:
            bench.figures["reload.held"] = statistics.median(held) * 1000
        bench.figures["reload.lost"] = max(run.lost for run in runs)
    bench.show(
        f"Reload (SIGHUP) of {count} connect checks",
        ("changed", "CPU s above rest", "loop thread s", "no check anywhere ms", "at rest ms",
         "longest gap of one target s", "slowest API answer ms", "at rest ms", "states lost"),
        lines,
    )  # fmt: skip


def kernel(bench: Bench) -> None:
    """Weight changes to a real kernel, in the lab guest."""
    lab = HERE.parent / "lab" / "ipvs_lab.sh"
    rounds = "2" if bench.options.quick else "5"
    program = [sys.executable, str(HERE / "kernel_rate.py"), "--json", "--rounds", rounds]
    result = subprocess.run(
        ["bash", str(lab), "--quiet", "--timeout", "300", "--", *program],
        capture_output=True,
        check=False,
        stdin=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, range(os.cpu_count() or 1)),
    )
    if result.returncode != 0:
        words = result.stderr.decode(errors="replace").strip().splitlines()[-1:]
        print(f"kernel: the lab guest failed: {''.join(words)}", file=sys.stderr)
        return
    found = json.loads(result.stdout)
    bench.figures["kernel.rate"] = found["lbhealth"]
    bench.show(
        "Weight changes to the kernel (lab guest, 100 services of 100 servers)",
        ("how", "changes/s"),
        [[name, number(value, 0)] for name, value in found.items()],
    )


SECTIONS: dict[str, Callable[[Bench], None]] = {
    "connect": connect,
    "http": http,
    "latency": latency,
    "silent": silent,
    "reload": reload,
    "kernel": kernel,
}


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs, smaller N")
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, comma-separated")
    parser.add_argument("--peers", default="lbhealth,haproxy,keepalived")
    parser.add_argument("--lbhealth", metavar="COMMAND", help="how to start lbhealth")
    parser.add_argument("--per-service", type=int, default=100, metavar="N")
    parser.add_argument("--sizes", metavar="N,N", help="numbers of targets for connect and http")
    parser.add_argument("--rounds", type=int, help="interleaved runs of each checker")
    parser.add_argument("--seconds", type=float, help="length of the measured part of a run")
    parser.add_argument("--markdown", action="store_true", help="tables for README.md")
    options = parser.parse_args()
    options.sections = options.only.split(",")
    if unknown := set(options.sections) - set(SECTIONS):
        parser.error(
            f"unknown section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}"
        )
    sizes = options.sizes or ("200,2000" if options.quick else "200,2000,5000,10000")
    options.sizes = [int(size) for size in sizes.split(",")]
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.seconds = options.seconds or (4 if options.quick else 8)
    return options


def participants(options: argparse.Namespace, directory: Path) -> list[Peer]:
    """The checkers that can run here; the reasons of the others go to stderr."""
    every: dict[str, Callable[[], Peer]] = {
        "lbhealth": lambda: Lbhealth(directory, options.lbhealth),
        "haproxy": lambda: Haproxy(directory),
        "keepalived": lambda: Keepalived(directory),
    }
    found = []
    for name in options.peers.split(","):
        if name not in every:
            sys.exit(f"unknown checker {name}; there are {', '.join(every)}")
        peer = every[name]()
        if why := peer.missing():
            print(f"{name} is left out: {why}", file=sys.stderr)
        else:
            found.append(peer)
    return found


def machine() -> str:
    """What the figures were measured on."""
    info = Path("/proc/cpuinfo").read_text().splitlines()
    model = next(
        (line.split(":")[1].strip() for line in info if line.startswith("model name")), "?"
    )
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} x {model}, Linux {platform.release()}, "
        f"Python {platform.python_version()}, load before the run {load}"
    )


def main() -> None:
    """Run the sections that were asked for."""
    options = parse()
    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, lambda *_: sys.exit("stopped"))
    print(machine(), flush=True)
    if lacking := missing_tools():
        sys.exit("cannot run here; missing: " + ", ".join(lacking))
    os.sched_setaffinity(0, {FARM_CPU})
    with Farm() as farm:
        peers = participants(options, farm.dir)
        ours = next((peer for peer in peers if isinstance(peer, Lbhealth)), None)
        bench = Bench(options, farm, peers, ours)
        for name in options.sections:
            SECTIONS[name](bench)
        print(f"\n{'### ' if options.markdown else ''}Goals\n")
        print(goals_table(bench.figures, markdown=options.markdown))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nstopped")
    except BenchError as error:
        sys.exit(str(error))
