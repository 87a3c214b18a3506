"""The farm: a network namespace with its own loopback, and nginx on every 127.x.y.z in it.

    with Farm() as farm:
        process = farm.start([...], cpu=CHECKER_CPU)     # lives in the namespace, dies with us
        farm.connects()                                  # connections begun in it since it exists

Everything that is started is ended by its own process group, on Ctrl-C too; should this program
be killed outright, the children get SIGKILL from the kernel (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

CHECKER_CPU = 0
FARM_CPU = 1
PORT = 8080
BODY = "OK healthy"

PR_SET_PDEATHSIG = 1
CLONE_NEWNET = 0x40000000

LIBC = ctypes.CDLL(None, use_errno=True)

SYSCTLS = {
    "core/somaxconn": "65535",
    "ipv4/tcp_max_syn_backlog": "65535",
    "ipv4/ip_local_port_range": "1024 65535",
    "ipv4/tcp_max_tw_buckets": "400000",
}

NGINX_CONF = """\
daemon off; master_process off; worker_rlimit_nofile {files};
pid {dir}/nginx.pid; error_log {dir}/nginx.err crit;
events {{ worker_connections {connections}; multi_accept on; use epoll; }}
http {{
  access_log off; keepalive_timeout 60s; default_type text/plain;
  client_body_temp_path {dir}/nb; proxy_temp_path {dir}/np; fastcgi_temp_path {dir}/nf;
  uwsgi_temp_path {dir}/nu; scgi_temp_path {dir}/ns;
  server {{ listen 0.0.0.0:{port} backlog=65535; location / {{ return 200 "{body}\\n"; }} }}
}}
"""


class BenchError(Exception):
    """A benchmark cannot run or gave no figure; the text says why."""


def target_address(index: int) -> str:
    """The address of target number `index`: 127.1.x.y, all different."""
    return f"127.1.{index // 250}.{index % 250 + 1}"


def missing_tools(*extra: str) -> list[str]:
    """What the machine lacks for a farm, one remedy a line."""
    packages = {"ip": "iproute2", "nginx": "nginx-light"} | {name: name for name in extra}
    lacking = [
        f"{tool} (package {package})"
        for tool, package in packages.items()
        if shutil.which(tool) is None
    ]
    if os.geteuid() != 0:
        lacking.append("root (network namespaces)")
    if (os.cpu_count() or 1) < 2:
        lacking.append("a second CPU (the farm must not share the checker's)")
    return lacking


class Farm:
    """A namespace, its loopback and one nginx worker.  Use it as a context manager."""

    def __init__(self) -> None:
        self.name = f"lbbench-{os.getpid()}"
        self.dir = Path(tempfile.mkdtemp(prefix="lbbench-"))
        self._netns: int | None = None
        self._nginx: subprocess.Popen[bytes] | None = None
        self._children: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        try:
            self._up()
        except BaseException:
            self._down()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._down()

    def _up(self) -> None:
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        subprocess.run(["ip", "-n", self.name, "link", "set", "lo", "up"], check=True)
        self._netns = os.open(f"/run/netns/{self.name}", os.O_RDONLY | os.O_CLOEXEC)
        script = ";".join(f"echo '{value}' >/proc/sys/net/{key}" for key, value in SYSCTLS.items())
        self.start(["sh", "-c", script], cpu=FARM_CPU).wait()
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        config = self.dir / "nginx.conf"
        config.write_text(
            NGINX_CONF.format(
                dir=self.dir, port=PORT, body=BODY, files=files, connections=files - 100
            )
        )
        self._nginx = self.start(["nginx", "-c", str(config)], cpu=FARM_CPU)
        for _ in range(100):
            if self._nginx.poll() is not None:
                break
            if (self.dir / "nginx.pid").exists() and self._answers():
                return
            time.sleep(0.05)
        raise BenchError("nginx did not start; see its own message above")

    def _answers(self) -> bool:
        """Whether the farm's port is listening, read from the namespace's socket table."""
        assert self._nginx is not None
        wanted = f"00000000:{PORT:04X}"
        table = Path(f"/proc/{self._nginx.pid}/net/tcp").read_text()
        return any(line.split()[1] == wanted for line in table.splitlines()[1:])

    def _down(self) -> None:
        for process in reversed(self._children):
            stop(process, grace=0.0)
        if self._netns is not None:
            os.close(self._netns)
        subprocess.run(["ip", "netns", "del", self.name], check=False, capture_output=True)
        shutil.rmtree(self.dir, ignore_errors=True)

    def start(
        self,
        command: Sequence[str],
        *,
        cpu: int,
        env: Mapping[str, str] | None = None,
        stdin: int | None = subprocess.DEVNULL,
        stdout: int | IO[bytes] | None = subprocess.DEVNULL,
        stderr: int | IO[bytes] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start `command` in the namespace, pinned on `cpu`, in a session of its own."""
        netns = self._netns
        parent = os.getpid()

        def enter() -> None:
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)
            os.sched_setaffinity(0, {cpu})
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            if LIBC.setns(netns, CLONE_NEWNET) != 0:
                os._exit(1)

        process = subprocess.Popen(
            command,
            env={**os.environ, **(env or {})},
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            preexec_fn=enter,
        )
        self._children.append(process)
        return process

    def connects(self) -> int:
        """Connections that were begun in the namespace (TcpActiveOpens), half-open ones too."""
        assert self._nginx is not None
        lines = Path(f"/proc/{self._nginx.pid}/net/snmp").read_text().splitlines()
        names, values = (line.split() for line in lines if line.startswith("Tcp:"))
        return int(values[names.index("ActiveOpens")])


def stop(process: subprocess.Popen[bytes], grace: float = 5.0) -> None:
    """End `process` and its group: SIGTERM, after `grace` seconds SIGKILL."""
    if process.poll() is None and grace > 0:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextlib.contextmanager
def running(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Give `process` and end it afterwards, whatever happens."""
    try:
        yield process
    finally:
        stop(process)
