"""How fast weights reach the kernel.  Runs where IPVS is: in the lab guest, or as root.

    tests/lab/ipvs_lab.sh -- .venv/bin/python tests/bench/kernel_rate.py [--json]

It makes 100 virtual services of 100 servers (192.0.2.0/24, a documentation network), changes
every weight through lbhealth's netlink driver, then some through `ipvsadm`, and removes them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from lbhealth.drivers.base import Driver, Outcome
from lbhealth.drivers.ipvs import IpvsDriver
from lbhealth.model import Destination, Forwarding, InetKey, KernelService, TransportProtocol
from lbhealth.plan import Op, OpKind

SERVICES = 100
ROWS = 100


def service(number: int) -> KernelService:
    """One of the virtual services."""
    address = f"192.0.2.{number + 1}"
    return KernelService(InetKey(TransportProtocol.TCP, address, 80), "wrr")


def rows(number: int) -> list[Destination]:
    """The rows of a service."""
    return [
        Destination(f"10.1.{number}.{row + 1}", 8080, Forwarding.MASQ, 1) for row in range(ROWS)
    ]


def check(outcomes: Sequence[Outcome]) -> None:
    """Stop on the first refusal."""
    for outcome in outcomes:
        if outcome.error is not None:
            sys.exit(f"the kernel refused {outcome.op}: {outcome.error}")


def ipvsadm_lines(weight: int, count: int) -> list[list[str]]:
    """Arguments of `count` weight changes."""
    return [
        [
            *("-e", "-t", f"192.0.2.{index % SERVICES + 1}:80"),
            *("-r", f"10.1.{index % SERVICES}.{index // SERVICES + 1}:8080"),
            *("-m", "-w", str(weight)),
        ]
        for index in range(count)
    ]


def run_each(changes: list[list[str]]) -> None:
    """One ipvsadm process per change, as ldirectord does it."""
    for arguments in changes:
        subprocess.run(["ipvsadm", *arguments], check=True)


def run_batch(changes: list[list[str]]) -> None:
    """One ipvsadm process for all changes."""
    text = "".join(" ".join(arguments) + "\n" for arguments in changes)
    subprocess.run(["ipvsadm", "-R"], input=text.encode(), check=True)


def rate(action: Callable[[list[list[str]]], None], changes: list[list[str]]) -> float:
    """Changes per second."""
    start = time.perf_counter()
    action(changes)
    return len(changes) / (time.perf_counter() - start)


async def through_driver(driver: Driver, rounds: int) -> list[float]:
    """Changes per second of all weights at once, `rounds` times."""
    rates = []
    for turn in range(rounds):
        ops = [
            Op(OpKind.RAISE_DESTINATION, service(number), replace(row, weight=turn + 2))
            for number in range(SERVICES)
            for row in rows(number)
        ]
        start = time.perf_counter()
        outcomes = await driver.apply(ops)
        rates.append(len(ops) / (time.perf_counter() - start))
        check(outcomes)
    table = await driver.dump([service(number).key for number in range(SERVICES)])
    weights = {row.weight for entry in table.values() for row in entry.destinations.values()}
    if weights != {rounds + 1}:
        sys.exit(f"the kernel holds other weights than were sent: {sorted(weights)}")
    return rates


async def measure(rounds: int, edits: int) -> dict[str, float]:
    """All figures, in changes per second."""
    driver = IpvsDriver()
    mine = [Op(OpKind.ADD_SERVICE, service(number)) for number in range(SERVICES)]
    mine += [
        Op(OpKind.ADD_DESTINATION, service(number), row)
        for number in range(SERVICES)
        for row in rows(number)
    ]
    try:
        check(await driver.apply(mine))
        rates = sorted(await through_driver(driver, rounds))
        figures = {"lbhealth": rates[len(rates) // 2]}
        if shutil.which("ipvsadm"):
            figures["ipvsadm -e"] = rate(run_each, ipvsadm_lines(50, edits))
            figures["ipvsadm -R"] = rate(run_batch, ipvsadm_lines(60, SERVICES * ROWS))
        return figures
    finally:
        await driver.apply(
            [Op(OpKind.DELETE_SERVICE, service(number)) for number in range(SERVICES)]
        )
        await driver.aclose()


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--edits", type=int, default=300, help="runs of ipvsadm -e")
    options = parser.parse_args()
    figures = asyncio.run(measure(options.rounds, options.edits))
    if options.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:12} {value:10.0f} weight changes/s")


if __name__ == "__main__":
    main()
