"""Real servers on loopback, a driver with faults, and short forms of the values in between."""

from __future__ import annotations

import asyncio
import itertools
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from lbhealth.checkers.http import Http
from lbhealth.checkers.tcp import Tcp
from lbhealth.drivers.base import Outcome
from lbhealth.drivers.memory import MemoryDriver
from lbhealth.engine import Director
from lbhealth.engine.snapshot import ServerStatus
from lbhealth.errors import CheckError, CheckFailed, DriverUnavailable
from lbhealth.events import Event
from lbhealth.model import (
    Check,
    Config,
    Destination,
    DirectorSettings,
    Forwarding,
    InetKey,
    KernelService,
    Passed,
    RealServer,
    Schedule,
    ServiceEntry,
    Status,
    Target,
    TransportProtocol,
    Verdict,
    VirtualService,
)

PATIENCE = 30.0
"""Seconds that a test waits for what must come; a busy machine is no failure."""


async def until(condition: Callable[[], object], patience: float = PATIENCE) -> None:
    """Wait until `condition()` holds, and whoever listens to events has heard of it."""
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, "what the test waits for did not come"
        await asyncio.sleep(0.005)
    for _ in range(3):
        await asyncio.sleep(0)


# ---------------------------------------------------------------- servers


def response(body: bytes = b"OK", status: str = "200 OK", *headers: str) -> bytes:
    """A whole HTTP response."""
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "\r\n"]
    return "\r\n".join(head).encode() + body


def say(
    *pieces: bytes, gap: float = 0.0, close: bool = False
) -> Callable[[asyncio.Transport], None]:
    """A reply in pieces, `gap` seconds apart, then perhaps the end of the connection."""

    def reply(transport: asyncio.Transport) -> None:
        loop = asyncio.get_running_loop()
        for number, piece in enumerate(pieces):
            loop.call_later(number * gap, transport.write, piece)
        if close:
            loop.call_later(len(pieces) * gap, transport.close)

    return reply


def hang(transport: asyncio.Transport) -> None:
    """Never answer."""


def reset(transport: asyncio.Transport) -> None:
    """End the connection by a reset."""
    sock = transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class Server:
    """A TCP server whose port stays its own while it is down.

    `greet` is called for each connection, `reply` for each whole request head.
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.host = host
        self.reply: Callable[[asyncio.Transport], None] = say(response())
        self.greet: Callable[[asyncio.Transport], None] = hang
        self.peers: list[tuple[str, int]] = []
        self.requests: list[bytes] = []
        self.open: set[asyncio.Transport] = set()
        self._listener: asyncio.Server | None = None
        self._keeper = self._bound(0)
        self.port: int = self._keeper.getsockname()[1]

    @property
    def target(self) -> Target:
        return Target(self.host, self.port)

    @property
    def connections(self) -> int:
        return len(self.peers)

    async def up(self) -> None:
        """Listen."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            lambda: _Conversation(self), sock=self._bound(self.port), backlog=1024
        )

    async def down(self) -> None:
        """Refuse connections."""
        if self._listener is not None:
            self._listener.close()
            for transport in tuple(self.open):
                transport.abort()
            await self._listener.wait_closed()
            self._listener = None

    async def aclose(self) -> None:
        await self.down()
        self._keeper.close()

    def _bound(self, port: int) -> socket.socket:
        sock = socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((self.host, port))
        return sock


class _Conversation(asyncio.Protocol):
    def __init__(self, server: Server) -> None:
        self.server = server
        self.data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.server.open.add(transport)
        self.server.peers.append(transport.get_extra_info("peername")[:2])
        self.server.greet(transport)

    def data_received(self, data: bytes) -> None:
        self.data += data
        while b"\r\n\r\n" in self.data:
            request, _, self.data = self.data.partition(b"\r\n\r\n")
            self.server.requests.append(request)
            self.server.reply(self.transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.server.open.discard(self.transport)


# ---------------------------------------------------------------- checks


FAST = Schedule(interval=0.1, timeout=5.0, rise=1, fall=1, fast_interval=0.1)


def tcp(server: Server, schedule: Schedule = FAST) -> Check:
    return Check(Tcp(), server.target, schedule)


def http(server: Server, schedule: Schedule = FAST, **settings: object) -> Check:
    return Check(Http(**settings), server.target, schedule)


@dataclass(eq=False)
class Switch:
    """A checker whose answer the test turns, as a plug-in would be run."""

    kind: ClassVar[str] = "switch"

    says: Verdict | Exception = Verdict.PASS
    runs: int = 0

    async def check(self, target: Target, ctx: object) -> Passed:
        self.runs += 1
        match self.says:
            case Verdict.PASS:
                return Passed(Status.L7OK, "fine")
            case Verdict.FAIL:
                raise CheckFailed(Status.L7STS, "broken")
            case Verdict.ERROR:
                raise CheckError("cannot run")
            case error:
                raise error

    def check_of(self, schedule: Schedule = FAST) -> Check:
        return Check(self, Target("127.0.0.1", 9), schedule)


# ---------------------------------------------------------------- configuration

KEY = InetKey(TransportProtocol.TCP, "192.0.2.10", 80)
OTHER = InetKey(TransportProtocol.TCP, "192.0.2.20", 80)


def real(
    source: Switch | Server | Check | None = None,
    *,
    address: str = "10.0.0.1",
    schedule: Schedule = FAST,
    **settings: object,
) -> RealServer:
    """A real server with the check that `source` stands for (None: no check)."""
    checks: tuple[Check, ...] = ()
    match source:
        case Switch():
            checks = (source.check_of(schedule),)
        case Server():
            checks = (tcp(source, schedule),)
        case Check():
            checks = (source,)
    settings = {"port": 80, "forwarding": Forwarding.MASQ, **settings}
    return RealServer(address=address, checks=checks, **settings)


def reals(*sources: Switch | Server | Check, **settings: object) -> tuple[RealServer, ...]:
    """Real servers 10.0.0.1:80, 10.0.0.2:80 and so on."""
    return tuple(
        real(source, address=f"10.0.0.{number}", **settings)
        for number, source in zip(itertools.count(1), sources, strict=False)
    )


def virtual(*servers: RealServer, key: InetKey = KEY, **settings: object) -> VirtualService:
    return VirtualService(key=key, real=servers, **settings)


def config(*services: VirtualService, resync: float = 3600.0, **settings: object) -> Config:
    """A configuration; by default drift is left alone for the length of a test."""
    return Config(virtual=services, director=DirectorSettings(resync=resync, **settings))


# ---------------------------------------------------------------- the data plane


def row(address: str = "10.0.0.1", weight: int = 1, port: int = 80) -> Destination:
    return Destination(address, port, Forwarding.MASQ, weight)


def entry(*rows: Destination, key: InetKey = KEY, scheduler: str = "wrr") -> ServiceEntry:
    return ServiceEntry(KernelService(key, scheduler), {r.key: r for r in rows})


def table(*entries: ServiceEntry) -> dict:
    return {e.service.key: e for e in entries}


class FaultyDriver(MemoryDriver):
    """A table in memory that notes what is done to it, and fails as it is told."""

    def __init__(self, found: dict | None = None) -> None:
        super().__init__(found)
        self.log: list = []
        self.dumps = 0
        self.broken: Exception | None = None
        self.refuses: Callable[[object], bool] = lambda op: False
        self.answers = asyncio.Event()
        self.answers.set()
        self.closed = False

    def break_down(self, why: str = "no answer") -> None:
        self.broken = DriverUnavailable(why, remedy="try again")

    def weights(self, key: InetKey = KEY) -> dict[str, int] | None:
        """Rows and their weights, None where there is no such service."""
        found = self.table.get(key)
        return found and {d.name: d.weight for d in found.destinations.values()}

    async def tamper(self, *ops: object) -> None:
        """Change the table as another program would."""
        await super().apply(ops)

    async def dump(self, services=None):
        self.dumps += 1
        await self._reach()
        return await super().dump(services)

    async def apply(self, ops):
        await self._reach()
        self.log += ops
        outcomes = {}
        for op in ops:
            if self.refuses(op):
                outcomes[id(op)] = Outcome(op, "refused")
            else:
                (outcomes[id(op)],) = await super().apply([op])
        return [outcomes[id(op)] for op in ops]

    async def aclose(self) -> None:
        self.closed = True

    async def _reach(self) -> None:
        await self.answers.wait()
        if self.broken is not None:
            raise self.broken


class SharedDriver(FaultyDriver):
    """A table that other programs on this host see too."""

    shared: ClassVar[bool] = True


# ---------------------------------------------------------------- watching a director


def listen(director: Director) -> tuple[list[Event], asyncio.Task[None]]:
    """Collect the events of a director; the task ends with it."""
    events: list[Event] = []
    note = events.append

    async def take() -> None:
        async for event in director.events():
            note(event)

    return events, asyncio.create_task(take())


def of(events: list[Event], kind: type) -> list:
    """The events of one kind."""
    return [event for event in events if isinstance(event, kind)]


def statuses(director: Director) -> dict[str, ServerStatus]:
    """The status of each server by name, of all services together."""
    return {s.server: s for service in director.snapshot().services for s in service.real}
