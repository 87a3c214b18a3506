"""The programs that are compared: their configuration, their command, how they report a death."""

from __future__ import annotations

import abc
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal

from farm import PORT, target_address

Kind = Literal["connect", "http"]
Endpoint = tuple[str, int]

HERE = Path(__file__).resolve().parent
ENDPOINT = re.compile(r"(\d+\.\d+\.\d+\.\d+):(\d+)")


def farm_targets(count: int) -> tuple[Endpoint, ...]:
    """`count` targets that nginx answers for."""
    return tuple((target_address(index), PORT) for index in range(count))


@dataclass(frozen=True)
class Job:
    """What a checker shall do: check every target once a second, one failure counts.

    `weights` replaces the weight 1 of single targets (by index).
    """

    kind: Kind
    targets: tuple[Endpoint, ...]
    per_service: int = 100
    weights: Mapping[int, int] = field(default_factory=dict)

    def services(self) -> Iterator[tuple[str, list[tuple[int, Endpoint]]]]:
        """Virtual addresses with their numbered targets."""
        numbered = list(enumerate(self.targets))
        for start in range(0, len(numbered), self.per_service):
            number = start // self.per_service
            yield (
                f"127.9.{number // 250}.{number % 250 + 1}",
                numbered[start : start + self.per_service],
            )

    def with_weight(self, index: int, weight: int) -> Job:
        """The same job with another weight for one target."""
        return replace(self, weights={**self.weights, index: weight})


@dataclass(frozen=True)
class Command:
    """How to start a checker."""

    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)


class Peer(abc.ABC):
    """One checker program.  `directory` is where its files go."""

    name: ClassVar[str]

    def __init__(self, directory: Path) -> None:
        self.directory = directory / self.name
        self.directory.mkdir(exist_ok=True)

    @abc.abstractmethod
    def missing(self) -> str | None:
        """Why it cannot run here; None when it can."""

    @abc.abstractmethod
    def prepare(self, job: Job) -> Command:
        """Write the configuration for `job` and return the command."""

    @abc.abstractmethod
    def went_down(self, line: str) -> Iterator[Endpoint]:
        """The servers that this line of its output declares down."""


class Lbhealth(Peer):
    """The program under test: an ldirectord.cf, the memory driver, the API open."""

    name = "lbhealth"

    def __init__(self, directory: Path, command: str | None = None) -> None:
        super().__init__(directory)
        beside = Path(sys.executable).with_name("lbhealth")
        self.command = shlex.split(command or str(beside if beside.exists() else "lbhealth"))
        self.api = self.directory / "api.sock"
        self.config = self.directory / "farm.cf"

    def missing(self) -> str | None:
        if shutil.which(self.command[0]) is None:
            return f"no {self.command[0]} (install the project, or give --lbhealth COMMAND)"
        result = subprocess.run([*self.command, "run", "--help"], capture_output=True, check=False)
        if result.returncode != 0:
            last = result.stderr.decode(errors="replace").strip().splitlines()[-1:]
            return f"`{shlex.join(self.command)} run --help` fails: {''.join(last)}"
        return None

    def prepare(self, job: Job) -> Command:
        state = self.directory / "state"
        shutil.rmtree(state, ignore_errors=True)
        state.mkdir()
        self.write(job)
        return Command(
            [
                *(*self.command, "run", str(self.config)),
                *("--driver", "memory", "--api", f"unix:{self.api}"),
            ],
            {"STATE_DIRECTORY": str(state), "RUNTIME_DIRECTORY": str(self.directory)},
        )

    def write(self, job: Job) -> None:
        """Write the configuration alone, as before a reload."""
        self.config.write_text(ldirectord_config(job))

    def went_down(self, line: str) -> Iterator[Endpoint]:
        if re.search(r"\bdown\b", line, re.IGNORECASE):
            for address, port in ENDPOINT.findall(line):
                yield address, int(port)


class Haproxy(Peer):
    """HAProxy on one thread: one backend whose servers are checked."""

    name = "haproxy"

    def missing(self) -> str | None:
        return None if shutil.which("haproxy") else "haproxy is not installed"

    def prepare(self, job: Job) -> Command:
        lines = [
            "global",
            " nbthread 1",
            " maxconn 200",
            " log stderr format raw local0 notice",
            f" stats socket {self.directory}/stats.sock mode 600 level admin",
            "defaults",
            f" mode {'http' if job.kind == 'http' else 'tcp'}",
            " timeout connect 3s",
            " timeout client 5s",
            " timeout server 5s",
            " timeout check 3s",
            " log global",
            "frontend front",
            " bind 127.0.0.1:18999",
            " default_backend farm",
            "backend farm",
        ]
        if job.kind == "http":
            lines += [
                " option httpchk GET /",
                " http-check expect status 200",
                " http-check expect string OK",
            ]
        lines.append(
            " default-server check inter 1000ms fastinter 1000ms downinter 1000ms rise 1 fall 1"
        )
        lines += [
            f" server {address}:{port} {address}:{port} weight {job.weights.get(index, 1)}"
            for index, (address, port) in enumerate(job.targets)
        ]
        config = self.directory / "haproxy.cfg"
        config.write_text("\n".join(lines) + "\n")
        return Command(["haproxy", "-db", "-f", str(config)])

    def went_down(self, line: str) -> Iterator[Endpoint]:
        # stderr carries each change twice, as a [WARNING] of its own and as a log line
        if found := re.search(r"Server farm/(\d+\.\d+\.\d+\.\d+):(\d+) is DOWN", line):
            yield found[1], int(found[2])


class Keepalived(Peer):
    """keepalived's checker process, on a pretended IPVS (ipvs_fake.c)."""

    name = "keepalived"

    def missing(self) -> str | None:
        if shutil.which("keepalived") is None:
            return "keepalived is not installed"
        if shutil.which("gcc") is None:
            return "gcc is not installed (keepalived needs ipvs_fake.c)"
        return None

    def shim(self) -> Path:
        """The compiled shim."""
        library = self.directory / "ipvs_fake.so"
        if not library.exists():
            source = str(HERE / "ipvs_fake.c")
            subprocess.run(
                ["gcc", "-O2", "-shared", "-fPIC", "-o", str(library), source, "-ldl"], check=True
            )
        return library

    def prepare(self, job: Job) -> Command:
        if job.kind == "connect":
            check = "TCP_CHECK { connect_timeout 3\n retry 0\n delay_before_retry 1 }"
        else:
            check = (
                "HTTP_GET { url { path /\n status_code 200\n regex OK }\n"
                " connect_timeout 3\n retry 0\n delay_before_retry 1 }"
            )
        check = check.replace("{ ", "{\n ").replace(" }", "\n }")
        lines = ["global_defs {\n router_id bench\n script_user root\n}"]
        for address, targets in job.services():
            # NAT, or the destination that the kernel is told has the virtual port
            lines.append(
                f"virtual_server {address} 80 {{\n delay_loop 1\n lvs_sched rr\n lvs_method NAT\n"
                " protocol TCP"
            )
            lines += [
                f" real_server {real} {port} {{\n weight {job.weights.get(index, 1)}\n {check}\n }}"
                for index, (real, port) in targets
            ]
            lines.append("}")
        config = self.directory / "keepalived.conf"
        config.write_text("\n".join(lines) + "\n")
        pids = [f"{flag}{self.directory}/{flag[1:]}.pid" for flag in ("-p", "-c", "-r")]
        return Command(
            ["keepalived", "-C", "-n", "-l", "-f", str(config), *pids],
            {"LD_PRELOAD": str(self.shim()), "IPVS_FAKE_LOG": "/dev/stderr"},
        )

    def went_down(self, line: str) -> Iterator[Endpoint]:
        if line.startswith("DELDEST "):
            address, _, port = line.split()[1].rpartition(":")
            yield address, int(port)


def ldirectord_config(job: Job) -> str:
    """An ldirectord.cf for `job`."""
    lines = [
        "checktimeout = 3",
        "negotiatetimeout = 3",
        "checkinterval = 1",
        "failurecount = 1",
        "autoreload = no",
        "quiescent = yes",
    ]
    for address, targets in job.services():
        lines += ["", f"virtual = {address}:80"]
        lines += [
            f"\treal = {real}:{port} masq {job.weights.get(index, 1)}"
            for index, (real, port) in targets
        ]
        lines += ["\tscheduler = wrr", "\tprotocol = tcp", "\tservice = http"]
        if job.kind == "connect":
            lines.append("\tchecktype = connect")
        else:
            lines += ["\tchecktype = negotiate", '\trequest = "/"', '\treceive = "OK"']
    return "\n".join(lines) + "\n"
