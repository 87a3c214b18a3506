"""A client, a director and two real servers, each in a network namespace, on one segment.

::

    client 10.7.0.100 (masq) 10.7.0.101 (route)      director 10.7.0.1, VIPs .10 and .20
    rs1 10.7.0.11, rs2 10.7.0.12: answer to .100 through the director, to .101 directly,
    and hold the route VIP 10.7.0.20 on their loopback without announcing it
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

MASQ_VIP, ROUTE_VIP = "10.7.0.10", "10.7.0.20"
MASQ_CLIENT, ROUTE_CLIENT = "10.7.0.100", "10.7.0.101"
SERVERS = {"rs1": "10.7.0.11", "rs2": "10.7.0.12"}
HOSTS = {
    "client": [MASQ_CLIENT, ROUTE_CLIENT],
    "director": ["10.7.0.1", MASQ_VIP, ROUTE_VIP],
    **{name: [address] for name, address in SERVERS.items()},
}
PORT = 8080

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000


def build() -> None:
    """Make the namespaces, once in a guest."""
    lines = ["link add segment type bridge", "link set segment up"]
    for name in HOSTS:
        subprocess.run(["ip", "netns", "add", name], check=True)
        lines += [
            f"link add {name} type veth peer name eth0 netns {name}",
            f"link set {name} master segment up",
        ]
    _batch(lines)
    for name, addresses in HOSTS.items():
        inside = ["link set lo up", "link set eth0 up"]
        inside += [f"addr add {address}/24 dev eth0" for address in addresses]
        if name in SERVERS:
            inside += [
                f"route add {MASQ_CLIENT}/32 via 10.7.0.1",
                f"addr add {ROUTE_VIP}/32 dev lo",
            ]
        _batch(inside, name)
    for name in SERVERS:
        _sysctl(name, "ipv4/conf/all/arp_ignore", "1")
        _sysctl(name, "ipv4/conf/all/arp_announce", "2")
        _sysctl(name, "ipv4/conf/all/accept_redirects", "0")
    _sysctl("director", "ipv4/ip_forward", "1")
    for interface in ("all", "eth0"):
        _sysctl("director", f"ipv4/conf/{interface}/send_redirects", "0")


def _batch(lines: list[str], namespace: str | None = None) -> None:
    command = ["ip", *(["-n", namespace] if namespace else []), "-batch", "-"]
    subprocess.run(command, input="\n".join(lines), text=True, check=True)


def _sysctl(namespace: str, name: str, value: str) -> None:
    with inside(namespace):
        Path("/proc/sys/net", name).write_text(value)


@contextlib.contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Sockets made within belong to that namespace, for good."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    other = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        _enter(other)
        yield
    finally:
        _enter(own)
        os.close(own)
        os.close(other)


def _enter(fd: int) -> None:
    if _libc.setns(fd, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


SERVER = """
import asyncio, sys
name, port = sys.argv[1].encode(), int(sys.argv[2])
async def serve(reader, writer):
    try:
        while line := await reader.readline():
            writer.write(name + b" " + line)
    except ConnectionError:
        pass
    finally:
        writer.close()
async def main():
    server = await asyncio.start_server(serve, "0.0.0.0", port, backlog=512)
    print("ready", flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


class Process:
    """A program in a namespace; ended at the latest with the test."""

    def __init__(self, namespace: str, *command: str, **options: object) -> None:
        with inside(namespace):
            self.popen = subprocess.Popen(command, text=True, **options)  # type: ignore[call-overload]

    def end(self, kill: bool = False) -> int:
        """TERM (or KILL) it and wait."""
        if self.popen.poll() is None:
            self.popen.kill() if kill else self.popen.terminate()
        status: int = self.popen.wait(20)
        if self.popen.stdout:
            self.popen.stdout.close()
        return status


def real_server(name: str) -> Process:
    """A server that answers each line with its name and the line."""
    server = Process(name, sys.executable, "-c", SERVER, name, str(PORT), stdout=subprocess.PIPE)
    assert server.popen.stdout is not None
    assert server.popen.stdout.readline() == "ready\n"
    return server


class Connection:
    """A client's connection through the load balancer."""

    def __init__(self, vip: str, timeout: float = 3) -> None:
        with inside("client"):
            self.sock = socket.socket()
        self.sock.settimeout(timeout)
        self.sock.bind((MASQ_CLIENT if vip == MASQ_VIP else ROUTE_CLIENT, 0))
        self.sock.connect((vip, PORT))

    def ask(self) -> str:
        """Send a line and return the name of the server that answers."""
        self.sock.sendall(b"hello\n")
        return self.sock.recv(100).split()[0].decode()

    def close(self) -> None:
        self.sock.close()


def answers(vip: str, count: int) -> Counter[str]:
    """Who answers so many new connections; "refused" and "silence" count too."""
    found: Counter[str] = Counter()
    for _ in range(count):
        try:
            connection = Connection(vip)
        except ConnectionRefusedError:
            found["refused"] += 1
            continue
        except TimeoutError:
            found["silence"] += 1
            continue
        try:
            found[connection.ask()] += 1
        except (OSError, IndexError):
            found["broken"] += 1
        finally:
            connection.close()
    return found


def until(condition: Callable[[], bool], seconds: float = 20) -> float:
    """Wait for a condition; return the seconds it took, or fail."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < seconds, "it did not happen in time"
        time.sleep(0.05)
    return time.monotonic() - begun
