"""Real programs behind a socket: telnetd and an echo started by socat, and Redis."""

import contextlib
import os
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from lbhealth.model import Target, TransportProtocol
from tests.servers import kit

BANNER = "svc login: "


@dataclass(frozen=True)
class Service:
    port: int
    process: subprocess.Popen[bytes]

    def target(self, address="127.0.0.1", protocol=TransportProtocol.TCP, **settings):
        return Target(address, self.port, protocol, **settings)


@contextlib.contextmanager
def launch(directory, listen, action, ready=kit.accepts):
    """socat listens on IPv6 and IPv4 together, or on IPv4 where there is no other."""
    if not kit.has_v6():
        pytest.skip("this host has no IPv6 loopback")
    port = kit.free_port()
    command = [kit.find_program("socat"), f"{listen}:{port},fork,reuseaddr,ipv6only=0", action]
    with kit.running(command, lambda: ready(port), log=directory / "log") as process:
        yield Service(port, process)


@pytest.fixture(scope="session")
def telnetd(tmp_path_factory):
    """inetutils' telnetd with a login program of its own."""
    telnetd = kit.find_program("telnetd")
    if os.geteuid() != 0:
        pytest.skip("telnetd must be started by root")
    directory = tmp_path_factory.mktemp("telnetd")
    login = directory / "login"
    login.write_text(f"#!/bin/sh\nprintf '{BANNER}'\nread user\n")
    login.chmod(0o755)
    action = f"EXEC:{telnetd} -h -E {login}"
    with launch(directory, "TCP6-LISTEN", action) as server:
        yield server


@pytest.fixture(scope="session")
def echo(tmp_path_factory):
    """What comes in goes out, by cat, over TCP."""
    with launch(tmp_path_factory.mktemp("echo"), "TCP6-LISTEN", "EXEC:cat") as server:
        yield server


@pytest.fixture(scope="session")
def udp_echo(tmp_path_factory):
    """What comes in goes out, over UDP."""
    directory = tmp_path_factory.mktemp("echo")
    with launch(directory, "UDP6-LISTEN", "EXEC:cat", udp_bound) as server:
        yield server


def udp_bound(port):
    """Whether something is bound to a UDP port."""
    return f":{port:04X} " in Path("/proc/net/udp6").read_text()


@pytest.fixture(scope="session")
def redis(tmp_path_factory):
    """A server of lines, which closes nothing by itself."""
    program = kit.find_program("redis-server")
    directory = tmp_path_factory.mktemp("redis")
    port = kit.free_port()
    words = f"--port {port} --bind 127.0.0.1 -::1 --save '' --appendonly no --dir {directory}"
    command = [program, *shlex.split(words)]
    with kit.running(command, lambda: kit.accepts(port), log=directory / "log") as process:
        yield Service(port, process)
