"""What only the real kernel can show: privileges, time-outs, foreign settings."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest

from lbhealth.drivers import ipvs_codec
from lbhealth.drivers.ipvs import IpvsDriver
from lbhealth.drivers.ipvs_report import Timeouts
from lbhealth.drivers.ipvsadm import IpvsadmDriver
from lbhealth.errors import DriverError
from lbhealth.model import (
    Destination,
    Forwarding,
    FwmarkKey,
    InetKey,
    KernelService,
    TransportProtocol,
)
from lbhealth.plan import Op, OpKind

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("clean_ipvs")]

WEB = KernelService(InetKey(TransportProtocol.TCP, "192.0.2.10", 80), "wrr")
ROW = Destination("10.0.0.1", 80, Forwarding.MASQ, 1)


@pytest.fixture
async def driver() -> AsyncIterator[IpvsDriver]:
    made = IpvsDriver()
    yield made
    await made.aclose()


def ipvsadm(*words: str) -> None:
    subprocess.run(["ipvsadm", *words], check=True)


async def test_the_kernel_says_what_it_is(driver: IpvsDriver) -> None:
    info = await driver.probe()
    assert info.version == "IPVS 1.2.1"
    assert info == type(info)(info.version, "4096 connection buckets")
    assert (await IpvsadmDriver().probe()).version == info.version


async def test_timeouts(driver: IpvsDriver) -> None:
    ipvsadm("--set", "901", "121", "301")
    assert await driver.timeouts() == Timeouts(901, 121, 301)
    ipvsadm("--set", "900", "120", "300")


async def test_zero(driver: IpvsDriver) -> None:
    await driver.apply([Op(OpKind.ADD_SERVICE, WEB)])
    await driver.zero()
    await driver.zero(WEB.key)
    with pytest.raises(DriverError, match="no such virtual service"):
        await driver.zero(FwmarkKey(4, socket.AF_INET6))


@pytest.mark.parametrize("name", ["ipvs:IpvsDriver", "ipvsadm:IpvsadmDriver"])
def test_without_privilege(name: str) -> None:
    """In a child, as a user without CAP_NET_ADMIN."""
    module, _, kind = name.partition(":")
    program = f"""
import asyncio
from lbhealth.drivers.{module} import {kind}
from lbhealth.errors import DriverPermissionError
async def main():
    for call in ({kind}().probe, {kind}().dump, {kind}().stats):
        try:
            await call()
        except DriverPermissionError as error:
            print(error)
asyncio.run(main())
"""
    words = ["setpriv", "--reuid", "65534", "--clear-groups", "--inh-caps=-all"]
    done = subprocess.run(
        [*words, sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.count("or with CAP_NET_ADMIN") for line in lines] == [1, 1, 1]


async def test_settings_that_no_configuration_can_ask_for(driver: IpvsDriver) -> None:
    """Both drivers read them alike, and unlike anything that is configured."""
    web = ("-t", "192.0.2.10:80")
    ipvsadm("-A", *web, "-s", "rr", "-p", "60", "-M", "255.0.255.0")
    ipvsadm("-A", "-t", "192.0.2.11:80", "-s", "rr", "--pe", "sip")
    ipvsadm("-A", "-t", "192.0.2.12:80", "-s", "sh", "-b", "flag-1,flag-3")
    ipvsadm("-A", "-t", "[::ffff:192.0.2.1]:80", "-s", "none")
    ipvsadm("-a", *web, "-r", "10.0.0.1", "-i", "--tun-type", "gre", "--tun-csum")
    by_netlink = await driver.dump()
    assert by_netlink == await IpvsadmDriver().dump()
    services = {str(key): entry.service for key, entry in by_netlink.items()}
    assert services["tcp:192.0.2.10:80"].netmask == ipvs_codec.NOT_A_PREFIX
    assert services["tcp:192.0.2.11:80"].engine is None
    assert services["tcp:192.0.2.12:80"].flags == ("sh-fallback",)
    assert "none" in {service.scheduler for service in services.values()}


async def test_the_method_local_is_read_alike(driver: IpvsDriver) -> None:
    row = Destination("127.0.0.1", 80, Forwarding.LOCAL, 1)
    await driver.apply([Op(OpKind.ADD_SERVICE, WEB), Op(OpKind.ADD_DESTINATION, WEB, row)])
    for each in (driver, IpvsadmDriver()):
        assert (await each.dump())[WEB.key].destinations == {row.key: row}


async def test_an_old_row_that_ipvsadm_could_not_have_made(driver: IpvsDriver) -> None:
    """Another port under route: netlink sets it, ipvsadm reads and deletes it only."""
    row = Destination("10.0.0.1", 81, Forwarding.ROUTE, 1)
    await driver.apply([Op(OpKind.ADD_SERVICE, WEB), Op(OpKind.ADD_DESTINATION, WEB, row)])
    program = IpvsadmDriver()
    assert (await program.dump())[WEB.key].destinations == {row.key: row}
    (outcome,) = await program.apply([Op(OpKind.RAISE_DESTINATION, WEB, row)])
    assert "port 81" in str(outcome.error)
    (outcome,) = await program.apply([Op(OpKind.DELETE_DESTINATION, WEB, row)])
    assert outcome.error is None
    assert (await driver.dump())[WEB.key].destinations == {}
