"""A real tinyproxy, open and with a password; on loopback only."""

import contextlib
import subprocess
from dataclasses import dataclass

import pytest

from lbhealth.model import Target
from tests.servers.kit import accepts, find_program, free_port, has_v6, running

LOGIN, PASSWORD = "health", "secret"

CONFIG = """\
Port {port}
Listen 127.0.0.1
{v6}Listen ::1
Timeout 5
MaxClients 20
LogFile "{dir}/{name}.log"
{more}
"""


@dataclass(frozen=True)
class Tinyproxy:
    ports: dict
    processes: dict[str, subprocess.Popen]
    v6: bool

    def target(self, name="open", address="127.0.0.1"):
        if ":" in address and not self.v6:
            pytest.skip("this host has no IPv6 loopback")
        return Target(address, self.ports[name])


@pytest.fixture(scope="session")
def tinyproxy(tmp_path_factory):
    program = find_program("tinyproxy")
    directory = tmp_path_factory.mktemp("tinyproxy")
    v6 = has_v6()
    ports, processes = {}, {}
    with contextlib.ExitStack() as stack:
        for name, more in (("open", ""), ("closed", f"BasicAuth {LOGIN} {PASSWORD}")):
            ports[name] = port = free_port()
            config = directory / f"{name}.conf"
            config.write_text(
                CONFIG.format(dir=directory, name=name, port=port, more=more, v6="" if v6 else "#")
            )
            processes[name] = stack.enter_context(
                running(
                    [program, "-d", "-c", config],
                    lambda port=port: accepts(port),
                    log=directory / f"{name}.out",
                )
            )
        yield Tinyproxy(ports, processes, v6)
