"""IPVS is reloaded under a running driver.

The name makes it the first file: what later tests leave in their network namespaces can hold
the modules.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from lbhealth.drivers.ipvs import IpvsDriver
from lbhealth.model import (
    Destination,
    Forwarding,
    InetKey,
    KernelService,
    TransportProtocol,
)
from lbhealth.plan import Op, OpKind

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("clean_ipvs")]

WEB = KernelService(InetKey(TransportProtocol.TCP, "192.0.2.10", 80), "wrr")
ROW = Destination("10.0.0.1", 80, Forwarding.MASQ, 1)


def reload_ipvs() -> None:
    subprocess.run(["ipvsadm", "-C"], check=True)
    modules = [line.split()[0] for line in Path("/proc/modules").read_text().splitlines()]
    helpers = [name for name in modules if name.startswith("ip_vs_")]
    subprocess.run(["modprobe", "-r", *helpers, "ip_vs"], check=True)
    assert "\nip_vs " not in "\n" + Path("/proc/modules").read_text()
    subprocess.run(["modprobe", "ip_vs"], check=True)


async def test_ipvs_is_reloaded_under_a_running_driver() -> None:
    driver = IpvsDriver()
    await driver.apply([Op(OpKind.ADD_SERVICE, WEB)])
    before = driver._family
    for _ in range(2):
        reload_ipvs()
        ops = [Op(OpKind.EDIT_SERVICE, WEB), Op(OpKind.RAISE_DESTINATION, WEB, ROW)]
        assert [outcome.error for outcome in await driver.apply(ops)] == [None, None]
        assert (await driver.dump())[WEB.key].destinations == {ROW.key: ROW}
    assert driver._family != before
    await driver.aclose()
