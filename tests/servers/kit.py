"""What the fixtures of real servers share: ports, processes, certificates."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

SERVER_NAME = "www.example.org"
"""The name in the good certificates, besides 127.0.0.1 and ::1."""


def find_program(name: str) -> str:
    """The path of a server's program; skips the test, by name, where it is not installed."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def free_port() -> int:
    """A port below the ephemeral range, so that no client's connection takes it meanwhile."""
    span = Path("/proc/sys/net/ipv4/ip_local_port_range")
    top = int(span.read_text().split()[0]) if span.exists() else 32768
    low = min(10000, top // 2)
    while True:
        port = low + int.from_bytes(os.urandom(4)) % (top - low)
        with (
            socket.socket() as stream,
            socket.socket(type=socket.SOCK_DGRAM) as datagram,
            contextlib.suppress(OSError),
        ):
            stream.bind(("127.0.0.1", port))
            datagram.bind(("127.0.0.1", port))
            return port


def has_v6() -> bool:
    """Whether this host has an IPv6 loopback."""
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def accepts(port: int, address: str = "127.0.0.1") -> bool:
    """Whether something listens on a TCP port."""
    with contextlib.suppress(OSError):
        socket.create_connection((address, port), 1).close()
        return True
    return False


@contextlib.contextmanager
def running(
    command: Sequence[str | Path],
    ready: Callable[[], bool],
    *,
    log: Path,
    seconds: float = 60,
    **options: object,
) -> Iterator[subprocess.Popen[bytes]]:
    """A server in the foreground, in a process group of its own, ended by its id.

    Fails the test with the end of `log` when the server ends or is not `ready` in time.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(  # type: ignore[call-overload]
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            **options,
        )
    try:
        give_up = time.monotonic() + seconds
        while not ready():
            if process.poll() is not None or time.monotonic() > give_up:
                words = log.read_text(errors="replace")[-3000:]
                pytest.fail(f"{command[0]} does not start (status {process.poll()}):\n{words}")
            time.sleep(0.05)
        yield process
    finally:
        for number in (signal.SIGCONT, signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            if number is signal.SIGTERM:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(5)
        process.wait(10)


@contextlib.contextmanager
def stopped(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """The whole process group stands still: it accepts, by its kernel, and never answers."""
    os.killpg(process.pid, signal.SIGSTOP)
    while not all(_is_stopped(task) for task in Path(f"/proc/{process.pid}/task").iterdir()):
        time.sleep(0.005)
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGCONT)


def _is_stopped(task: Path) -> bool:
    """Whether a thread stands still: the state comes behind the name in parentheses."""
    return (task / "stat").read_text().rpartition(")")[2].split()[0] == "T"


@dataclass(frozen=True)
class Certificates:
    """PEM files: key and chain together where a server needs both (`*_key`, `*_cert` apart)."""

    ca: Path
    good: Path
    good_key: Path
    good_cert: Path
    expired: Path
    wrong_name: Path


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """One authority, and certificates that are good, expired, or for another name."""
    directory = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    names = (SERVER_NAME, "127.0.0.1", "::1")
    yesterday = datetime.now(UTC) - timedelta(days=1)
    good = authority.issue_cert(*names)
    good.private_key_pem.write_to_path(str(directory / "good.key"))
    good.cert_chain_pems[0].write_to_path(str(directory / "good.crt"))
    for name, leaf in (
        ("good", good),
        ("expired", authority.issue_cert(*names, not_after=yesterday)),
        ("wrong", authority.issue_cert("other.example.net")),
    ):
        leaf.private_key_and_cert_chain_pem.write_to_path(str(directory / f"{name}.pem"))
    for file in directory.iterdir():
        file.chmod(0o644)  # servers read them as users of their own
    directory.chmod(0o755)
    return Certificates(
        ca=directory / "ca.pem",
        good=directory / "good.pem",
        good_key=directory / "good.key",
        good_cert=directory / "good.crt",
        expired=directory / "expired.pem",
        wrong_name=directory / "wrong.pem",
    )
