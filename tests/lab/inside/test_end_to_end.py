"""The whole way: client, director and real servers, with real packets through real IPVS."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lbhealth.cli.client import call
from lbhealth.errors import DirectorUnreachable
from lbhealth.services.address import parse_address
from tests.lab.inside import network
from tests.lab.inside.network import (
    MASQ_VIP,
    PORT,
    ROUTE_VIP,
    SERVERS,
    Connection,
    Process,
    answers,
    until,
)

CONFIG = """
[director]
resync = "1s"
[[virtual]]
name = "masq"
listen = "{masq}:{port}/tcp"
forwarding = "masq"
check = {{ type = "tcp", interval = "500ms", timeout = "500ms", rise = 1, fall = 1 }}
real = [
  {{ address = "{rs1}:{port}", weight = 3 }},
  {{ address = "{rs2}:{port}", weight = 1 }},
]
[[virtual]]
name = "route"
listen = "{route}:{port}/tcp"
forwarding = "route"
check = {{ type = "tcp", interval = "500ms", timeout = "500ms", rise = 1, fall = 1 }}
real = [
  {{ address = "{rs1}:{port}", weight = 1 }},
  {{ address = "{rs2}:{port}", weight = 4 }},
]
""".format(masq=MASQ_VIP, route=ROUTE_VIP, port=PORT, **SERVERS)

INTERVAL_AND_TIMEOUT = 0.5 + 0.5
SLACK = 3.0
"""The guest shares its processor with everything else on the machine."""


@pytest.fixture(scope="module")
def segment() -> None:
    network.build()


class Director:
    """`lbhealth run` in the director's namespace."""

    def __init__(self, directory: Path) -> None:
        self.config = directory / "lbhealth.toml"
        self.config.write_text(CONFIG)
        self.api = f"unix:{directory}/api.sock"
        self.log = directory / "log"
        self.process: Process | None = None

    def start(self) -> None:
        with self.log.open("a") as log:
            self.process = Process(
                "director",
                *(sys.executable, "-m", "lbhealth", "run", str(self.config)),
                *("--driver", "ipvs", "--api", self.api),
                stderr=log,
            )
        until(lambda: bool(self.status()), 60)

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "lbhealth", *words, "--api", self.api]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def status(self) -> list[dict]:
        try:
            return call(parse_address(self.api), "GET", "/v1/status")["services"]
        except DirectorUnreachable:
            return []

    def applied(self, service: int = 0) -> list[int | None]:
        return [server["weight"]["applied"] for server in self.status()[service]["real"]]

    def end(self, kill: bool = False) -> None:
        if self.process is not None:
            self.process.end(kill)


def table() -> str:
    """The kernel's table in the director's namespace, without its counters."""
    return ipvsadm("-Sn")


def ipvsadm(*words: str) -> str:
    with network.inside("director"):
        done = subprocess.run(["ipvsadm", *words], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture(scope="module")
def servers(segment: None) -> Iterator[dict[str, Process]]:
    running = {name: network.real_server(name) for name in SERVERS}
    yield running
    for server in running.values():
        server.end()


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, servers: dict[str, Process]
) -> Iterator[Director]:
    director = Director(tmp_path_factory.mktemp("director"))
    director.start()
    yield director
    director.end()


@pytest.fixture
def director(running: Director) -> Director:
    """The running director, with every server up at its weight."""
    until(lambda: running.applied(0) == [3, 1] and running.applied(1) == [1, 4])
    running.log.write_text("")
    return running


@pytest.mark.parametrize(
    ("vip", "shares"), [(MASQ_VIP, {"rs1": 30, "rs2": 10}), (ROUTE_VIP, {"rs1": 8, "rs2": 32})]
)
def test_the_share_of_connections_follows_the_weights(
    director: Director, vip: str, shares: dict[str, int]
) -> None:
    assert answers(vip, 40) == shares


def test_a_dead_server_is_out_in_time_and_comes_back(
    director: Director, servers: dict[str, Process]
) -> None:
    servers["rs1"].end(kill=True)
    took = until(lambda: ":8080 -m -w 0" in table() and table().count("-w 0") == 2)
    assert took < INTERVAL_AND_TIMEOUT + SLACK
    assert answers(MASQ_VIP, 8) == {"rs2": 8}
    assert answers(ROUTE_VIP, 8) == {"rs2": 8}
    servers["rs1"] = network.real_server("rs1")
    until(lambda: "-w 0" not in table())
    assert answers(MASQ_VIP, 8) == {"rs1": 6, "rs2": 2}


def test_restarting_the_director_moves_no_connection(director: Director) -> None:
    connections = [Connection(vip) for vip in (MASQ_VIP, ROUTE_VIP) for _ in range(4)]
    before = [connection.ask() for connection in connections]
    rows = table()
    director.end()
    assert table() == rows
    director.start()
    until(lambda: director.applied(0) == [3, 1])
    assert table() == rows
    assert [connection.ask() for connection in connections] == before
    for connection in connections:
        connection.close()
    log = director.log.read_text()
    assert "was up" not in log, "no server may change its state over a restart"
    assert "put right" not in log


def test_kill_minus_9_leaves_the_table_serving(director: Director) -> None:
    held = Connection(MASQ_VIP)
    name = held.ask()
    rows = table()
    director.end(kill=True)
    assert table() == rows
    assert answers(MASQ_VIP, 8) == {"rs1": 6, "rs2": 2}
    assert held.ask() == name
    director.start()  # a stale API socket and no lock are in the way
    assert held.ask() == name
    held.close()


def test_what_others_change_is_put_right_and_told(director: Director) -> None:
    rs1, rs2 = (f"{address}:{PORT}" for address in SERVERS.values())
    ipvsadm("-d", "-t", f"{MASQ_VIP}:{PORT}", "-r", rs1)
    ipvsadm("-e", "-t", f"{MASQ_VIP}:{PORT}", "-r", rs2, "-m", "-w", "77")
    ipvsadm("-A", "-t", "10.7.0.99:80", "-s", "rr")
    until(lambda: f"{rs1} -m -w 3" in table() and f"{rs2} -m -w 1" in table())
    assert "10.7.0.99:80" in table(), "a service of others is not touched"
    log = director.log.read_text()
    assert log.count("put right") == 2
    assert f"add {rs1} masq weight 3" in log


def test_drain_and_online_by_the_operator(director: Director) -> None:
    held = Connection(MASQ_VIP)
    name = held.ask()
    address = f"{SERVERS[name]}:{PORT}"
    other = next(n for n in SERVERS if n != name)
    assert director.call("drain", f"masq/{address}", "--reason", "new disk").returncode == 0
    until(lambda: f"{address} -m -w 0" in table())
    assert answers(MASQ_VIP, 6) == {other: 6}
    assert answers(ROUTE_VIP, 5) == {"rs1": 1, "rs2": 4}, "the other service goes on"
    assert held.ask() == name, "old connections live on"
    held.close()
    assert director.call("online", address).returncode == 0
    until(lambda: "-w 0" not in table())


def test_a_second_director_is_refused(director: Director, tmp_path: Path) -> None:
    rival = subprocess.run(
        [
            *("ip", "netns", "exec", "director", sys.executable, "-m", "lbhealth", "run"),
            *(str(director.config), "--driver", "ipvs", "--api", f"unix:{tmp_path}/rival.sock"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert rival.returncode == 1
    assert "already driven by another lbhealth" in rival.stderr
    assert "Traceback" not in rival.stderr
    assert answers(MASQ_VIP, 4) == {"rs1": 3, "rs2": 1}
