"""A real Knot DNS server: a good zone, its reverse zones, and one that does not load."""

import contextlib
import socket
import subprocess
from dataclasses import dataclass

import dns.message
import pytest

from lbhealth.model import Target, TransportProtocol
from tests.servers.kit import find_program, free_port, has_v6, running

CONFIG = """
server:
    rundir: "{dir}"
    listen: [{listen}]
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: "{dir}/db"
log:
  - target: stderr
    any: warning
template:
  - id: default
    storage: "{dir}"
zone:
  - domain: example.org
    file: example.zone
  - domain: 2.0.192.in-addr.arpa
    file: v4.zone
  - domain: 8.b.d.0.1.0.0.2.ip6.arpa
    file: v6.zone
  - domain: broken.test
    file: broken.zone
"""

HEAD = """$TTL 1
@ SOA ns.example.org. admin.example.org. 42 3600 600 86400 1
@ NS ns.example.org.
"""
FORWARD = """
ns A 192.0.2.53
www A 192.0.2.10
www A 192.0.2.11
www AAAA 2001:db8::10
alias CNAME www
@ MX 10 mail
mail A 192.0.2.25
@ TXT "v=spf1 -all" "hello"
"""

BIG = 60
"""TXT records of big.example.org: more than fit into 512 bytes."""


@dataclass(frozen=True)
class Knot:
    port: int
    process: subprocess.Popen

    def target(self, address="127.0.0.1", protocol="udp", port=None, **more):
        if ":" in address and not has_v6():
            pytest.skip("this host has no IPv6 loopback")
        return Target(address, port or self.port, TransportProtocol(protocol), **more)


@pytest.fixture(scope="session", name="knot")
def knot_server(tmp_path_factory):
    program = find_program("knotd")
    directory = tmp_path_factory.mktemp("knot")
    (directory / "db").mkdir()
    big = "".join(f'big TXT "record number {n} of many"\n' for n in range(BIG))
    zones = {
        "example": HEAD + FORWARD + big,
        "v4": HEAD + "10 PTR www.example.org.\n",
        "v6": HEAD + f"0.1.{'0.' * 21}0 PTR www.example.org.\n",
        "broken": "junk\n",
    }
    for name, text in zones.items():
        (directory / f"{name}.zone").write_text(text)
    port = free_port()
    listen = [f"127.0.0.1@{port}", *([f"::1@{port}"] if has_v6() else [])]
    config = directory / "knot.conf"
    config.write_text(CONFIG.format(dir=directory, listen=", ".join(listen)))
    log = directory / "log"
    with running([program, "-c", config], lambda: answers(port), log=log) as process:
        yield Knot(port, process)


def answers(port):
    query = dns.message.make_query("www.example.org", "A").to_wire()
    with socket.socket(type=socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
        sock.settimeout(0.2)
        sock.connect(("127.0.0.1", port))
        sock.send(query)
        return dns.message.from_wire(sock.recv(4096)).rcode() == 0
    return False
