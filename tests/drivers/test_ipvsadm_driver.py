"""IpvsadmDriver with a program that is really run (fake_ipvsadm, beside this file)."""

from __future__ import annotations

import asyncio
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from lbhealth.drivers.base import Driver
from lbhealth.drivers.ipvsadm import IpvsadmDriver
from lbhealth.errors import DriverError, DriverPermissionError, DriverUnavailable
from lbhealth.model import (
    Destination,
    Forwarding,
    InetKey,
    KernelService,
    ServiceEntry,
    Table,
    TransportProtocol,
)
from lbhealth.plan import Op, OpKind

PROGRAM = Path(__file__).with_name("fake_ipvsadm")
WEB = KernelService(InetKey(TransportProtocol.TCP, "192.0.2.10", 80), "wrr")
ROW = Destination("10.0.0.1", 80, Forwarding.MASQ, 1)


class Program:
    """What the fake program keeps."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.set()

    def set(self, **state: object) -> None:
        self.path.write_text(json.dumps(state))

    @property
    def state(self) -> dict[str, object]:
        return json.loads(self.path.read_text())

    def calls(self, *, reading: bool = False) -> list[str]:
        lines = [" ".join(words) for words in self.state.get("calls", [])]
        return [line for line in lines if reading or not line.startswith("-L")]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    made = Program(tmp_path / "state.json")
    monkeypatch.setenv("FAKE_IPVSADM", str(made.path))
    monkeypatch.setenv("IPVSADM", str(PROGRAM))
    return made


@pytest.fixture
def driver(program: Program) -> IpvsadmDriver:
    return IpvsadmDriver()


def table_of(*entries: tuple[KernelService, list[Destination]]) -> Table:
    return {s.key: ServiceEntry(s, {r.key: r for r in rows}) for s, rows in entries}


def add(*rows: Destination) -> list[Op]:
    ops = [Op(OpKind.ADD_SERVICE, WEB)]
    return ops + [Op(OpKind.ADD_DESTINATION, WEB, row) for row in rows]


def rows(number: int) -> list[Destination]:
    return [replace(ROW, address=f"10.0.{n // 200}.{n % 200 + 1}") for n in range(number)]


async def errors(driver: IpvsadmDriver, *ops: Op) -> list[str | None]:
    return [outcome.error for outcome in await driver.apply(ops)]


async def test_it_is_a_driver(driver: IpvsadmDriver) -> None:
    assert isinstance(driver, Driver)
    info = await driver.probe()
    assert info.version == "IPVS 1.2.1"
    assert info.detail == f"4096 connection buckets, by {PROGRAM}"


async def test_many_changes_are_one_run(driver: IpvsadmDriver, program: Program) -> None:
    made = rows(50)
    assert set(await errors(driver, *add(*made))) == {None}
    assert program.calls()[0] == "-R"
    assert program.calls().count("-R") == 1
    assert len(program.calls()) == 1 + 51
    assert await driver.dump() == table_of((WEB, made))
    assert await driver.dump([WEB.key]) == table_of((WEB, made))
    assert await driver.dump([replace(WEB.key, port=81)]) == {}


async def test_one_change_is_one_plain_run(driver: IpvsadmDriver, program: Program) -> None:
    assert await errors(driver, Op(OpKind.ADD_SERVICE, WEB)) == [None]
    assert program.calls() == ["-A -t 192.0.2.10:80 -s wrr"]


async def test_each_change_has_its_own_outcome(driver: IpvsadmDriver, program: Program) -> None:
    """-R says neither which line failed nor, unless it was the last, that one did."""
    bad = replace(ROW, address="224.0.0.1")
    good = rows(5)
    outcomes = await driver.apply(add(*good[:3], bad, *good[3:]))
    failed = [outcome for outcome in outcomes if outcome.error]
    assert [outcome.op.destination for outcome in failed] == [bad]
    assert "must be unicast" in str(failed[0].error)
    assert await driver.dump() == table_of((WEB, good))
    assert program.calls()[1 + 7 :] == ["-a -t 192.0.2.10:80 -r 224.0.0.1:80 -m -w 1 -x 0 -y 0"], (
        "what was done is not done again"
    )


async def test_a_line_that_ends_the_batch(driver: IpvsadmDriver, program: Program) -> None:
    """ipvsadm exits at some lines; those behind it must still be done."""
    good = rows(4)
    heavy = replace(ROW, address="10.9.9.9", weight=99999999999)
    outcomes = await driver.apply(add(good[0], heavy, *good[1:]))
    assert sum(outcome.error is not None for outcome in outcomes) <= 1
    assert set((await driver.dump())[WEB.key].destinations) >= {row.key for row in good}


async def test_adding_what_is_there_edits_and_editing_what_is_gone_adds(
    driver: IpvsadmDriver,
) -> None:
    assert await errors(driver, *add(ROW)) == [None, None]
    heavier = replace(ROW, weight=7)
    assert await errors(driver, *add(heavier)) == [None, None]
    assert await driver.dump() == table_of((WEB, [heavier]))
    ops = [
        Op(OpKind.DELETE_SERVICE, WEB),
        Op(OpKind.EDIT_SERVICE, WEB),
        Op(OpKind.LOWER_DESTINATION, WEB, ROW),
    ]
    assert await errors(driver, *ops) == [None] * 3
    assert await driver.dump() == table_of((WEB, [ROW]))


async def test_deleting_what_is_gone_is_done(driver: IpvsadmDriver) -> None:
    gone = [Op(OpKind.DELETE_DESTINATION, WEB, ROW), Op(OpKind.DELETE_SERVICE, WEB)]
    assert await errors(driver, *gone) == [None, None]
    assert await errors(driver, gone[0]) == [None]
    assert await errors(driver, gone[1]) == [None]


async def test_refusals_in_words(driver: IpvsadmDriver, program: Program) -> None:
    (error,) = await errors(driver, Op(OpKind.ADD_DESTINATION, WEB, ROW))
    assert error == (
        "tcp:192.0.2.10:80 10.0.0.1:80: there is no virtual service tcp:192.0.2.10:80"
        " (Service not defined)"
    )
    (error,) = await errors(driver, Op(OpKind.ADD_SERVICE, replace(WEB, scheduler="nosuch")))
    assert "ip_vs_nosuch" in str(error)
    program.set(say="something\x1b[31m new\nhappened")
    (error,) = await errors(driver, Op(OpKind.ADD_SERVICE, WEB))
    assert error == "tcp:192.0.2.10:80: something?[31m new happened"


async def test_an_ipvsadm_without_exact(driver: IpvsadmDriver, program: Program) -> None:
    program.set(refuse=["--exact", "--thresholds"])
    assert await driver.dump() == {}
    assert await driver.dump() == {}
    assert program.calls(reading=True).count("-L -n --exact") == 1


@pytest.mark.parametrize(
    ("text", "kind", "remedy"),
    [
        (
            "Can't initialize ipvs: Protocol not available",
            DriverUnavailable,
            "modprobe ip_vs",
        ),
        (
            "Can't initialize ipvs: Permission denied (you must be root)",
            DriverPermissionError,
            "CAP_NET_ADMIN",
        ),
    ],
)
async def test_no_ipvs_and_no_privilege(
    driver: IpvsadmDriver, program: Program, text: str, kind: type[DriverError], remedy: str
) -> None:
    program.set(say=text)
    calls = (driver.probe(), driver.dump(), driver.stats(), driver.apply(add(ROW)))
    for call in calls:
        with pytest.raises(kind, match=remedy):
            await call


async def test_a_program_that_hangs_is_killed(program: Program) -> None:
    program.set(hang=True)
    driver = IpvsadmDriver(timeout=0.3)
    with pytest.raises(DriverUnavailable, match=r"did not end within 0\.3 s"):
        await driver.dump()
    with pytest.raises(DriverUnavailable):
        await driver.apply(add(ROW))


async def test_a_cancelled_run_is_killed(program: Program) -> None:
    program.set(hang=True)
    task = asyncio.create_task(IpvsadmDriver().dump())
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)


async def test_output_that_is_no_listing(driver: IpvsadmDriver, monkeypatch) -> None:
    monkeypatch.setenv("IPVSADM", shutil.which("true"))
    with pytest.raises(DriverError, match="nothing that can be read"):
        await driver.dump()


async def test_no_program(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "which", lambda *_, **__: None)
        with pytest.raises(DriverUnavailable, match="apt install ipvsadm"):
            await IpvsadmDriver("ipvsadm").probe()
    monkeypatch.setenv("IPVSADM", "/nonexistent/ipvsadm")
    with pytest.raises(DriverUnavailable, match=r"\$IPVSADM"):
        await IpvsadmDriver().dump()


async def test_the_argument_wins_over_the_environment(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IPVSADM", "/nonexistent/ipvsadm")
    assert await IpvsadmDriver(str(PROGRAM)).dump() == {}


async def test_a_program_that_cannot_be_run(tmp_path: Path, program: Program) -> None:
    broken = tmp_path / "ipvsadm"
    broken.write_bytes(b"\x7fELF nonsense")
    broken.chmod(0o755)
    with pytest.raises(DriverUnavailable, match="cannot run"):
        await IpvsadmDriver(str(broken)).dump()


async def test_counters(driver: IpvsadmDriver) -> None:
    await driver.apply(add(ROW))
    stats = await driver.stats()
    assert set(stats[WEB.key].destinations) == {ROW.key}
