"""What every driver must do, on the real kernel; each test runs with each driver."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from lbhealth.drivers.base import Driver
from lbhealth.drivers.ipvs import IpvsDriver
from lbhealth.drivers.ipvsadm import IpvsadmDriver
from lbhealth.drivers.memory import MemoryDriver
from lbhealth.model import (
    Destination,
    Forwarding,
    FwmarkKey,
    InetKey,
    KernelService,
    ServiceEntry,
    ServiceKey,
    Table,
    TransportProtocol,
    Tunnel,
    TunnelChecksum,
    TunnelType,
)
from lbhealth.plan import Op, OpKind, diff
from lbhealth.plan import apply as plan_apply
from lbhealth.policy import Action, Decision, DesiredService

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("clean_ipvs")]

TCP, UDP, SCTP = TransportProtocol.TCP, TransportProtocol.UDP, TransportProtocol.SCTP
V4, V6 = "192.0.2.10", "2001:db8::10"
REAL = {"ipvs": IpvsDriver, "ipvsadm": IpvsadmDriver}
DRIVERS = {**REAL, "memory": MemoryDriver}


@pytest.fixture(params=list(DRIVERS))
async def driver(request: pytest.FixtureRequest) -> AsyncIterator[Driver]:
    made: Driver = DRIVERS[request.param]()
    yield made
    await made.aclose()


@pytest.fixture(params=list(REAL))
async def real(request: pytest.FixtureRequest) -> AsyncIterator[Driver]:
    made: Driver = REAL[request.param]()
    yield made
    await made.aclose()


@pytest.fixture
async def other(real: Driver) -> AsyncIterator[Driver]:
    """The real driver that `real` is not."""
    made = IpvsDriver() if isinstance(real, IpvsadmDriver) else IpvsadmDriver()
    yield made
    await made.aclose()


def service(key: ServiceKey | None = None, **settings: object) -> KernelService:
    key = key or InetKey(TCP, V4, 80)
    netmask = 128 if key.family == socket.AF_INET6 else 32
    return KernelService(key, **{"scheduler": "wrr", "netmask": netmask, **settings})


def row(address: str = "10.0.0.1", port: int = 80, **settings: object) -> Destination:
    return Destination(address, port, **{"forwarding": Forwarding.MASQ, "weight": 1, **settings})


def table_of(*entries: tuple[KernelService, list[Destination]]) -> dict[ServiceKey, ServiceEntry]:
    return {s.key: ServiceEntry(s, {r.key: r for r in rows}) for s, rows in entries}


def building(table: Table) -> list[Op]:
    ops = [Op(OpKind.ADD_SERVICE, entry.service) for entry in table.values()]
    for entry in table.values():
        ops += [Op(OpKind.ADD_DESTINATION, entry.service, r) for r in entry.destinations.values()]
    return ops


def desired(entry: ServiceEntry) -> DesiredService:
    decisions = {k: Decision(Action.SET, r.weight, "test") for k, r in entry.destinations.items()}
    return DesiredService(entry.service, entry.destinations, decisions)


async def do(driver: Driver, *ops: Op) -> None:
    outcomes = await driver.apply(ops)
    assert [outcome.op for outcome in outcomes] == list(ops)
    assert [outcome.error for outcome in outcomes if outcome.error] == []


SERVICES = {
    "v4": service(),
    "v6": service(InetKey(TCP, V6, 443)),
    "udp": service(InetKey(UDP, V4, 53), scheduler="rr"),
    "sctp": service(InetKey(SCTP, V4, 99), scheduler="lc"),
    "mark": service(FwmarkKey(5)),
    "mark-big": service(FwmarkKey(2**32 - 1)),
    "mark-v6": service(FwmarkKey(5, socket.AF_INET6)),
    "persistent": service(timeout=600),
    "persistent-mask": service(timeout=60, netmask=24),
    "persistent-mask0": service(timeout=60, netmask=0),
    "persistent-v6": service(InetKey(TCP, V6, 80), timeout=60, netmask=64),
    "persistent-mark": service(FwmarkKey(7), timeout=60, netmask=16),
    "any-port": service(InetKey(TCP, V4, 0), timeout=360),
    "ops": service(InetKey(UDP, V4, 514), one_packet=True),
    "sip": service(InetKey(UDP, V4, 5060), timeout=30, engine="sip"),
    "sip-ops": service(
        InetKey(UDP, V4, 5061),
        scheduler="rr",
        timeout=30,
        netmask=16,
        engine="sip",
        one_packet=True,
        flags=("flag-1", "flag-3"),
    ),
    "sh": service(scheduler="sh", flags=("sh-fallback", "sh-port")),
    "mh": service(InetKey(TCP, V6, 81), scheduler="mh", flags=("mh-port",)),
    "flag": service(flags=("flag-2",)),
    **{name: service(scheduler=name) for name in ("rr", "wlc", "lblc", "dh", "sed", "nq", "fo")},
}

TUNNEL = Forwarding.TUNNEL
ROWS = {
    "masq": row(port=8080, weight=3),
    "route": row(forwarding=Forwarding.ROUTE),
    "ipip": row(forwarding=TUNNEL),
    "gue": row(forwarding=TUNNEL, tunnel=Tunnel(TunnelType.GUE, 6080)),
    "gue-csum": row(
        forwarding=TUNNEL, tunnel=Tunnel(TunnelType.GUE, 6081, TunnelChecksum.CHECKSUM)
    ),
    "gue-remote": row(
        forwarding=TUNNEL, tunnel=Tunnel(TunnelType.GUE, 65535, TunnelChecksum.REMOTE)
    ),
    "gre": row(forwarding=TUNNEL, tunnel=Tunnel(TunnelType.GRE)),
    "gre-csum": row(forwarding=TUNNEL, tunnel=Tunnel(TunnelType.GRE, 0, TunnelChecksum.CHECKSUM)),
    "thresholds": row(upper=1000, lower=800),
    "upper": row(upper=65535),
    "zero": row(weight=0),
    "heavy": row(weight=65535),
    "huge": row(weight=2**31 - 1),
    "own": row("127.0.0.1"),
    "own-route": row("127.0.0.1", forwarding=Forwarding.ROUTE),
    "mixed": row("2001:db8::99", forwarding=TUNNEL),
}


@pytest.mark.parametrize("name", SERVICES)
async def test_a_service_comes_back_as_it_was_made(driver: Driver, name: str) -> None:
    made = SERVICES[name]
    await do(driver, Op(OpKind.ADD_SERVICE, made))
    assert await driver.dump() == table_of((made, []))
    assert await driver.dump([made.key]) == table_of((made, []))
    edited = replace(made, scheduler="wlc", flags=(), timeout=90)
    await do(driver, Op(OpKind.EDIT_SERVICE, edited))
    assert await driver.dump() == table_of((edited, []))
    await do(driver, Op(OpKind.DELETE_SERVICE, edited))
    assert await driver.dump() == {}


@pytest.mark.parametrize("name", ROWS)
async def test_a_row_comes_back_as_it_was_made(driver: Driver, name: str) -> None:
    made, home = ROWS[name], service()
    await do(driver, Op(OpKind.ADD_SERVICE, home), Op(OpKind.ADD_DESTINATION, home, made))
    assert await driver.dump() == table_of((home, [made]))
    edited = replace(made, weight=7, upper=90, lower=10)
    await do(driver, Op(OpKind.RAISE_DESTINATION, home, edited))
    assert await driver.dump() == table_of((home, [edited]))
    await do(driver, Op(OpKind.DELETE_DESTINATION, home, edited))
    assert await driver.dump() == table_of((home, []))


@pytest.mark.parametrize("forwarding", [Forwarding.MASQ, Forwarding.TUNNEL, Forwarding.ROUTE])
async def test_every_method_under_ipv6_and_marks(driver: Driver, forwarding: Forwarding) -> None:
    six = service(InetKey(TCP, V6, 80))
    mark, mark6 = service(FwmarkKey(9)), service(FwmarkKey(9, socket.AF_INET6))
    wanted = table_of(
        (six, [row("2001:db8::1", forwarding=forwarding)]),
        (mark, [row("10.0.0.1", 0, forwarding=forwarding)]),
        (mark6, [row("2001:db8::1", 0, forwarding=forwarding)]),
    )
    await do(driver, *building(wanted))
    assert await driver.dump() == wanted


async def test_a_row_of_the_other_family_needs_a_tunnel(real: Driver) -> None:
    home = service(InetKey(TCP, V6, 80))
    good = row("10.0.0.1", forwarding=TUNNEL)
    bad = row("10.0.0.2")
    ops = [Op(OpKind.ADD_SERVICE, home)]
    ops += [Op(OpKind.ADD_DESTINATION, home, r) for r in (bad, good)]
    outcomes = await real.apply(ops)
    assert [bool(outcome.error) for outcome in outcomes] == [False, True, False]
    assert "tunnel" in str(outcomes[1].error)
    assert await real.dump() == table_of((home, [good]))


async def test_everything_at_once_and_the_drivers_agree(real: Driver, other: Driver) -> None:
    unique = {made.key: made for made in SERVICES.values()}
    rows = [row(f"10.0.1.{n}", 80) for n in range(1, 6)]
    wanted = table_of(*((made, rows if made.key.family == 2 else []) for made in unique.values()))
    home = service()
    tunnels = [replace(r, address=f"10.0.2.{n}") for n, r in enumerate(ROWS.values()) if n < 13]
    wanted[home.key] = ServiceEntry(home, {r.key: r for r in [*rows, *tunnels]})
    await do(real, *building(wanted))
    assert await real.dump() == wanted
    assert await other.dump() == wanted
    assert diff(wanted, {key: desired(entry) for key, entry in wanted.items()}) == []


async def test_every_operation_may_be_done_twice(driver: Driver) -> None:
    home, first = service(), row()
    add = [Op(OpKind.ADD_SERVICE, home), Op(OpKind.ADD_DESTINATION, home, first)]
    await do(driver, *add)
    changed = [
        Op(OpKind.ADD_SERVICE, replace(home, scheduler="rr")),
        Op(OpKind.ADD_DESTINATION, home, replace(first, weight=9)),
    ]
    await do(driver, *changed)
    assert await driver.dump() == table_of(
        (replace(home, scheduler="rr"), [replace(first, weight=9)])
    )
    gone = [Op(OpKind.DELETE_DESTINATION, home, first), Op(OpKind.DELETE_SERVICE, home)]
    await do(driver, *gone)
    await do(driver, *gone)
    assert await driver.dump() == {}


async def test_editing_what_is_gone_adds_it(driver: Driver) -> None:
    home, first = service(), row(weight=4)
    await do(driver, Op(OpKind.EDIT_SERVICE, home), Op(OpKind.LOWER_DESTINATION, home, first))
    assert await driver.dump() == table_of((home, [first]))


async def test_a_row_of_a_missing_service_is_refused_by_name(driver: Driver) -> None:
    home = service()
    for kind in (OpKind.ADD_DESTINATION, OpKind.RAISE_DESTINATION):
        (outcome,) = await driver.apply([Op(kind, home, row())])
        assert "service" in str(outcome.error)
        assert "tcp:192.0.2.10:80 10.0.0.1:80" in str(outcome.error)
    await do(driver, Op(OpKind.DELETE_DESTINATION, home, row()))
    assert await driver.dump() == {}


async def test_an_unknown_scheduler_is_named_with_its_module(real: Driver) -> None:
    for kind in (OpKind.ADD_SERVICE, OpKind.EDIT_SERVICE):
        (outcome,) = await real.apply([Op(kind, service(scheduler="nosuch"))])
        assert "ip_vs_nosuch" in str(outcome.error)
    (outcome,) = await real.apply([Op(OpKind.ADD_SERVICE, service(timeout=9, engine="nope"))])
    assert "ip_vs_pe_nope" in str(outcome.error)
    await do(real, Op(OpKind.ADD_SERVICE, service()))
    (outcome,) = await real.apply([Op(OpKind.EDIT_SERVICE, service(scheduler="nosuch"))])
    assert "ip_vs_nosuch" in str(outcome.error)
    assert await real.dump() == table_of((service(), []))


async def test_a_refused_row_does_not_stop_the_rest(real: Driver) -> None:
    home = service()
    rows = [
        row("10.0.0.1"),
        row("224.0.0.1"),
        row("10.0.0.2"),
        row("10.0.0.3", upper=5, lower=9),
        row("10.0.0.4", weight=2**31),
        row("10.0.0.5"),
    ]
    ops = [Op(OpKind.ADD_SERVICE, home), *(Op(OpKind.ADD_DESTINATION, home, r) for r in rows)]
    outcomes = await real.apply(ops)
    wrong = [n for n, outcome in enumerate(outcomes) if outcome.error]
    assert wrong == [2, 4, 5]
    good = [rows[0], rows[2], rows[5]]
    assert await real.dump() == table_of((home, good))


async def test_what_cannot_be_said_is_an_error_of_its_operation(real: Driver) -> None:
    home = service()
    bad = [
        Op(OpKind.ADD_SERVICE, service(InetKey(TCP, V4, 81), scheduler="rr\n-C")),
        Op(OpKind.ADD_SERVICE, service(InetKey(TCP, V4, 82), flags=("bogus",))),
        Op(OpKind.ADD_DESTINATION, home, row(weight=-1)),
        Op(OpKind.ADD_DESTINATION, home, row(port=70000)),
    ]
    outcomes = await real.apply([Op(OpKind.ADD_SERVICE, home), *bad])
    assert [bool(outcome.error) for outcome in outcomes] == [False, True, True, True, True]
    assert await real.dump() == table_of((home, []))


async def test_services_that_do_not_exist_are_left_out(driver: Driver) -> None:
    home = service()
    await do(driver, Op(OpKind.ADD_SERVICE, home), Op(OpKind.ADD_DESTINATION, home, row()))
    missing = InetKey(UDP, V4, 80)
    assert await driver.dump([missing, home.key]) == table_of((home, [row()]))
    assert await driver.dump([missing]) == {}
    assert await driver.dump([]) == {}


async def test_one_edit_changes_nothing_else(real: Driver) -> None:
    wanted = table_of(
        (service(FwmarkKey(1)), [row("10.0.0.1", 0, upper=9)]),
        (service(InetKey(TCP, V6, 80), timeout=60, netmask=64), [row("2001:db8::1", 80)]),
        (service(), [row(forwarding=TUNNEL, tunnel=Tunnel(TunnelType.GUE, 99)), row("10.0.0.2")]),
    )
    await do(real, *building(wanted))
    home = service()
    heavier = row(weight=5, forwarding=TUNNEL, tunnel=Tunnel(TunnelType.GUE, 99))
    op = Op(OpKind.RAISE_DESTINATION, home, heavier)
    await do(real, op)
    assert await real.dump() == plan_apply(wanted, [op])


@pytest.mark.parametrize("seed", range(4))
async def test_any_sequence_ends_where_the_plan_says(driver: Driver, seed: int) -> None:
    """Random operations, in long and short batches, against the model's own arithmetic."""
    dice = random.Random(seed)
    steps = 3 if isinstance(driver, IpvsadmDriver) else 60
    keys = [
        InetKey(TCP, V4, 80),
        InetKey(UDP, V4, 80),
        InetKey(TCP, V6, 80),
        FwmarkKey(1),
        FwmarkKey(1, socket.AF_INET6),
    ]
    table: Table = {}
    for _ in range(steps):
        ops: list[Op] = []
        after = table
        for _ in range(dice.choice((1, 1, 3, 40))):
            key = dice.choice(keys)
            home = service(key, scheduler=dice.choice(("rr", "wrr", "sh")))
            if key not in after or dice.random() < 0.2:
                kind = dice.choice((OpKind.ADD_SERVICE, OpKind.EDIT_SERVICE, OpKind.DELETE_SERVICE))
                op = Op(kind, home)
            else:
                host = dice.randrange(1, 5)
                six = key.family == socket.AF_INET6
                target = row(
                    f"2001:db8::{host}" if six else f"10.0.0.{host}",
                    weight=dice.randrange(9),
                    upper=dice.choice((0, 50)),
                )
                op = Op(OpKind(dice.randrange(2, 6)), after[key].service, target)
            ops.append(op)
            after = plan_apply(after, [op])
        await do(driver, *ops)
        assert await driver.dump() == after
        table = after


async def test_the_difference_of_two_tables_is_done_and_then_empty(driver: Driver) -> None:
    foreign = table_of((service(FwmarkKey(77)), [row("10.9.9.9", 0)]))
    start = table_of(
        (service(), [row("10.0.0.1"), row("10.0.0.2", weight=9), row("10.0.0.3")]),
        (service(InetKey(UDP, V4, 53)), [row("10.0.0.1", 53)]),
    )
    end = table_of(
        (service(scheduler="wlc", timeout=30), [row("10.0.0.2", weight=0), row("10.0.0.4")]),
        (service(InetKey(TCP, V6, 443)), [row("2001:db8::1", 443, upper=7)]),
    )
    await do(driver, *building({**foreign, **start}))
    wanted = {key: desired(entry) for key, entry in end.items()}
    ops = diff(await driver.dump(), wanted, owned=list(start), prune=True)
    await do(driver, *ops)
    assert await driver.dump() == {**foreign, **end}
    assert diff(await driver.dump(), wanted, owned=list(start), prune=True) == []


async def test_counters_are_there_for_every_row(driver: Driver) -> None:
    wanted = table_of((service(), [row(), row("10.0.0.2")]), (service(FwmarkKey(3)), []))
    await do(driver, *building(wanted))
    stats = await driver.stats()
    assert {key: set(entry.destinations) for key, entry in stats.items()} == {
        key: set(entry.destinations) for key, entry in wanted.items()
    }


@pytest.mark.timeout(300)
async def test_ten_thousand_rows(real: Driver, capsys: pytest.CaptureFixture[str]) -> None:
    """100 services of 100 rows: built by netlink, read by each driver, weights changed."""
    homes = [service(InetKey(TCP, f"192.0.2.{n}", 80)) for n in range(1, 101)]
    rows = [row(f"10.0.{n}.1") for n in range(100)]
    wanted = table_of(*((home, rows) for home in homes))
    builder = IpvsDriver()
    await do(builder, *building(wanted))
    await builder.aclose()
    (worst, seconds), found = await timed(real.dump())
    assert found == wanted
    ops = [
        Op(OpKind.RAISE_DESTINATION, home, replace(r, weight=2))
        for r in rows[: 100 if isinstance(real, IpvsDriver) else 20]
        for home in homes
    ]
    (pause, spent), outcomes = await timed(real.apply(ops))
    assert not [outcome for outcome in outcomes if outcome.error]
    with capsys.disabled():
        print(f"\n{real.name}, 100 services of 100 rows: dump {seconds:.2f} s", end="")
        print(f" (longest pause {worst * 1e3:.1f} ms), {len(ops) / spent:.0f}", end="")
        print(f" weight changes/s (longest pause {pause * 1e3:.1f} ms)")


@pytest.mark.timeout(300)
async def test_ten_thousand_rows_in_one_service(
    real: Driver, capsys: pytest.CaptureFixture[str]
) -> None:
    home = service()
    rows = [row(f"10.0.{n // 250}.{n % 250 + 1}") for n in range(10_000)]
    wanted = table_of((home, rows))
    builder = IpvsDriver()
    await do(builder, *building(wanted))
    await builder.aclose()
    (worst, seconds), found = await timed(real.dump())
    assert found == wanted
    ops = [Op(OpKind.RAISE_DESTINATION, home, replace(r, weight=2)) for r in rows[::10]]
    (pause, spent), outcomes = await timed(real.apply(ops))
    assert not [outcome for outcome in outcomes if outcome.error]
    with capsys.disabled():
        print(f"\n{real.name}, one service of 10,000 rows: dump {seconds:.2f} s", end="")
        print(f" (longest pause {worst * 1e3:.1f} ms), {len(ops) / spent:.0f}", end="")
        print(f" weight changes/s (longest pause {pause * 1e3:.1f} ms)")


async def timed(work):
    """Await `work`; return how long the loop stood still at worst, the duration, the result."""
    worst = 0.0

    async def tick() -> None:
        nonlocal worst
        before = time.perf_counter()
        while True:
            await asyncio.sleep(0)
            now = time.perf_counter()
            worst = max(worst, now - before)
            before = now

    ticker = asyncio.create_task(tick())
    await asyncio.sleep(0)
    started = time.perf_counter()
    result = await work
    seconds = time.perf_counter() - started
    ticker.cancel()
    return (worst, seconds), result
