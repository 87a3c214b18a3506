"""The values that everything else passes around.

Three families, kept apart on purpose: what a *check* is and says (`Check`, `CheckResult`),
what the *operator* configured (`VirtualService`, `RealServer`), and what the *kernel* holds
(`KernelService`, `Destination`, `Table`).  All are immutable, compare by value and know no
clock, socket or logger.

Addresses are strings in their canonical short form (`canonical_address`); durations are
seconds as floats; times are seconds of a monotonic clock unless a name says otherwise.
"""

from __future__ import annotations

import enum
import ipaddress
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, TypeAlias, runtime_checkable

__all__ = [
    "Address",
    "Admin",
    "AdminState",
    "Check",
    "CheckContext",
    "CheckResult",
    "Checker",
    "Config",
    "Destination",
    "DestinationKey",
    "DirectorSettings",
    "Fallback",
    "Forwarding",
    "FwmarkKey",
    "HealthState",
    "Hybrid",
    "InetKey",
    "KernelService",
    "OnDown",
    "Passed",
    "Persistence",
    "RealServer",
    "Schedule",
    "ServiceEntry",
    "ServiceKey",
    "Status",
    "Table",
    "Target",
    "TransportProtocol",
    "Tunnel",
    "TunnelChecksum",
    "TunnelType",
    "Verdict",
    "VirtualService",
    "canonical_address",
    "family_of",
    "host_port",
    "transport_of",
]

Address: TypeAlias = str
"""An IPv4 or IPv6 address as `canonical_address` writes it."""


def canonical_address(text: str) -> Address:
    """Return the one spelling of an IP address that lbhealth compares.

    Raises ValueError when `text` is not an IPv4 or IPv6 address.
    """
    return ipaddress.ip_address(text).compressed


def family_of(address: Address) -> socket.AddressFamily:
    """AF_INET6 for an address with a colon, else AF_INET."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def host_port(address: Address, port: int) -> str:
    """`192.0.2.1:80` or `[2001:db8::1]:80`, as operators write and ipvsadm prints it."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


# ---------------------------------------------------------------- checks


class Verdict(enum.StrEnum):
    """What one run of a check says.

    ERROR means that the checker could not run (no file descriptors, a bug in a plug-in);
    it says nothing about the server and never changes its state.
    """

    PASS = "PASS"  # noqa: S105 - a verdict, no password
    FAIL = "FAIL"
    ERROR = "ERROR"


class Status(enum.StrEnum):
    """Layer and cause of a result, named after HAProxy's check status (management.txt, 9.1)."""

    L4OK = "L4OK"
    L4TOUT = "L4TOUT"
    L4CON = "L4CON"
    L6OK = "L6OK"
    L6TOUT = "L6TOUT"
    L6RSP = "L6RSP"
    L7OK = "L7OK"
    L7TOUT = "L7TOUT"
    L7RSP = "L7RSP"
    L7STS = "L7STS"
    PROCOK = "PROCOK"
    PROCERR = "PROCERR"
    PROCTOUT = "PROCTOUT"
    SOCKERR = "SOCKERR"


class TransportProtocol(enum.StrEnum):
    """Layer-4 protocol of a service or a check."""

    TCP = "tcp"
    UDP = "udp"
    SCTP = "sctp"


@dataclass(frozen=True, slots=True)
class Target:
    """Where a check goes.

    `server_name` is the TLS server name, `source` a local address to bind, `mark` a SO_MARK
    (0 = none).
    """

    address: Address
    port: int
    protocol: TransportProtocol = TransportProtocol.TCP
    server_name: str | None = None
    source: Address | None = None
    mark: int = 0

    def __str__(self) -> str:
        return host_port(self.address, self.port)


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One finished run of a check.  `started` is monotonic seconds, `duration` seconds."""

    verdict: Verdict
    status: Status
    detail: str
    started: float
    duration: float
    weight: int | None = None


@dataclass(frozen=True, slots=True)
class Passed:
    """What a checker returns when the server is good."""

    status: Status
    detail: str = ""
    weight: int | None = None


@dataclass(slots=True)
class CheckContext:
    """What a running check is given.

    `deadline` is in seconds of the running loop's clock; the engine enforces it, so a checker
    needs it only to tell its library.  `trace`, when set, receives each step of the dialogue:
    a direction (`>` sent, `<` received, `*` remark) and the bytes or the text.  Secrets are
    never passed to it.  A checker keeps `phase` at the status that a time-out would have
    now: L4TOUT while it connects (the start), L6TOUT in the TLS handshake, L7TOUT after.
    """

    deadline: float
    trace: Callable[[str, bytes | str], None] | None = None
    phase: Status = Status.L4TOUT

    def note(self, direction: str, data: bytes | str) -> None:
        """Report one step of the dialogue to whoever listens."""
        if self.trace is not None:
            self.trace(direction, data)


@runtime_checkable
class Checker(Protocol):
    """A frozen, hashable dataclass whose fields are its settings.

    Equal checkers with equal targets are the same check: it runs once for all services.
    `check` returns `Passed`, or raises `CheckFailed` (the server is bad) or `CheckError`
    (the checker could not run); the engine maps OSError, TimeoutError and ssl.SSLError.
    A static method `load`, where there is one, is called before the first run: it imports what
    takes long to import.
    """

    kind: ClassVar[str]

    async def check(self, target: Target, ctx: CheckContext) -> Passed:
        """Probe `target` once."""


def transport_of(
    checker: Checker | type[Checker], wanted: TransportProtocol | None
) -> TransportProtocol:
    """The transport protocol for a check: the wanted one if the checker speaks it.

    A checker says what it speaks by a class variable `protocols`, its usual one first;
    without it, TCP.
    """
    spoken: tuple[TransportProtocol, ...] = getattr(checker, "protocols", (TransportProtocol.TCP,))
    return wanted if wanted in spoken else spoken[0]


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a check runs and how many results change a state.  Seconds; rise, fall >= 1.

    `fast_interval` is used while a change is pending (a server that fails but is not yet
    down, or passes but is not yet up); it is never longer than `interval`.
    """

    interval: float = 5.0
    timeout: float = 2.0
    rise: int = 2
    fall: int = 3
    fast_interval: float = 1.0


@dataclass(frozen=True, slots=True)
class Hybrid:
    """The "5" and "10" check types: `connects` cheap checks between two full ones.

    `connect` is the cheap checker, `timeout` its time-out in seconds.
    """

    connects: int
    connect: Checker
    timeout: float


@dataclass(frozen=True, slots=True)
class Check:
    """A checker, aimed and scheduled.  This value is the identity of a running check."""

    checker: Checker
    target: Target
    schedule: Schedule
    hybrid: Hybrid | None = None


class HealthState(enum.StrEnum):
    """What the checks say about a server."""

    UP = "up"
    DOWN = "down"
    UNKNOWN = "unknown"


# ---------------------------------------------------------------- what the operator configured


class AdminState(enum.StrEnum):
    """What the operator wants: serve, no new connections (weight 0), or out of the table."""

    ONLINE = "online"
    DRAIN = "drain"
    HALT = "halt"


@dataclass(frozen=True, slots=True)
class Admin:
    """An operator's word on one server.  `since` and `until` are wall-clock seconds."""

    state: AdminState = AdminState.ONLINE
    reason: str = ""
    actor: str = ""
    since: float | None = None
    until: float | None = None


class Forwarding(enum.IntEnum):
    """How packets reach a server; the numbers are the kernel's (IP_VS_CONN_F_*)."""

    MASQ = 0
    LOCAL = 1
    TUNNEL = 2
    ROUTE = 3


class TunnelType(enum.IntEnum):
    """Encapsulation of a tunnel destination (include/uapi/linux/ip_vs.h)."""

    IPIP = 0
    GUE = 1
    GRE = 2


class TunnelChecksum(enum.IntEnum):
    """Checksum of GUE and GRE encapsulation (IP_VS_TUNNEL_ENCAP_FLAG_*)."""

    NONE = 0
    CHECKSUM = 1
    REMOTE = 2


@dataclass(frozen=True, slots=True)
class Tunnel:
    """Encapsulation of one destination; `port` (1..65535) is needed by GUE only."""

    type: TunnelType = TunnelType.IPIP
    port: int = 0
    checksum: TunnelChecksum = TunnelChecksum.NONE


@dataclass(frozen=True, slots=True, order=True)
class InetKey:
    """A virtual service known by protocol, address and port (port 0 = every port)."""

    protocol: TransportProtocol
    address: Address
    port: int

    @property
    def family(self) -> socket.AddressFamily:
        """Address family of the virtual address."""
        return family_of(self.address)

    def __str__(self) -> str:
        return f"{self.protocol}:{host_port(self.address, self.port)}"


@dataclass(frozen=True, slots=True, order=True)
class FwmarkKey:
    """A virtual service known by the mark (1..2**32-1) that the firewall puts on its packets."""

    mark: int
    family: socket.AddressFamily = socket.AF_INET

    def __str__(self) -> str:
        return f"{'fwm6' if self.family == socket.AF_INET6 else 'fwm'}:{self.mark}"


ServiceKey: TypeAlias = InetKey | FwmarkKey

DestinationKey: TypeAlias = tuple[Address, int]
"""Address and port of a kernel row inside its virtual service."""


class OnDown(enum.StrEnum):
    """What becomes of a failed server: weight 0 (old connections live on), or deleted."""

    QUIESCE = "quiesce"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Persistence:
    """Clients stay with their server for `timeout` whole seconds.

    `netmask` is the IPv4 prefix length or IPv6 prefix length of what counts as one client;
    `engine` is the kernel's persistence engine ("sip") or None.
    """

    timeout: int
    netmask: int | None = None
    engine: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RealServer:
    """One configured server.

    `weight` 0 means parked.  `upper` and `lower` are the connection thresholds (0 = none).
    A server without checks has `assumed`: UP for the types on and none, DOWN for off.
    """

    address: Address
    port: int
    forwarding: Forwarding = Forwarding.ROUTE
    weight: int = 1
    upper: int = 0
    lower: int = 0
    tunnel: Tunnel | None = None
    checks: tuple[Check, ...] = ()
    assumed: HealthState = HealthState.UP

    @property
    def name(self) -> str:
        """`ADDRESS:PORT` as configured."""
        return host_port(self.address, self.port)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallback:
    """The server that serves when no other does; its weight is always 1."""

    address: Address
    port: int
    forwarding: Forwarding = Forwarding.ROUTE

    @property
    def name(self) -> str:
        """`ADDRESS:PORT` as configured."""
        return host_port(self.address, self.port)


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualService:
    """One configured virtual service.

    `flags` are ipvsadm's scheduler flags ("sh-fallback", "flag-1").  `min_up` (0.0..1.0) is
    the share of the online servers below which failed ones are kept in.  `readd_quiescent`
    adds a failed server's absent row with weight 0.  `parked_holds_fallback`: a healthy
    server of weight 0 counts as up for the fallback, as in ldirectord.
    """

    key: ServiceKey
    name: str = ""
    scheduler: str = "wrr"
    flags: tuple[str, ...] = ()
    persistence: Persistence | None = None
    one_packet: bool = False
    real: tuple[RealServer, ...] = ()
    fallback: Fallback | None = None
    on_down: OnDown = OnDown.QUIESCE
    min_up: float = 0.0
    readd_quiescent: bool = False
    parked_holds_fallback: bool = False
    clean_stop: bool = False

    def destination_key(self, server: RealServer | Fallback) -> DestinationKey:
        """The kernel row that stands for `server`.

        Under route and tunnel the kernel does not translate ports, so the row carries the
        virtual port, except in a firewall-mark service (ipvsadm.c, process_options).
        """
        if isinstance(self.key, InetKey) and server.forwarding in (
            Forwarding.ROUTE,
            Forwarding.TUNNEL,
        ):
            return (server.address, self.key.port)
        return (server.address, server.port)


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectorSettings:
    """Settings of the director itself.

    `resync` is in seconds, 0.1 or more.  `clean_stop` is what the file says for all services;
    what counts at a stop is each service's own.
    """

    resync: float = 10.0
    clean_stop: bool = False
    prune: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A whole configuration, resolved and valid."""

    virtual: tuple[VirtualService, ...] = ()
    director: DirectorSettings = field(default_factory=DirectorSettings)


# ---------------------------------------------------------------- what the kernel holds


@dataclass(frozen=True, slots=True)
class KernelService:
    """One virtual service as IPVS holds it.

    `timeout` is the persistence time in seconds (0 = not persistent); `netmask` a prefix
    length, 32 or 128 where clients are told apart one by one.
    """

    key: ServiceKey
    scheduler: str
    flags: tuple[str, ...] = ()
    timeout: int = 0
    netmask: int = 32
    one_packet: bool = False
    engine: str | None = None


@dataclass(frozen=True, slots=True)
class Destination:
    """One row of a virtual service as IPVS holds it."""

    address: Address
    port: int
    forwarding: Forwarding
    weight: int
    upper: int = 0
    lower: int = 0
    tunnel: Tunnel | None = None

    @property
    def key(self) -> DestinationKey:
        """Address and port: what names the row inside its service."""
        return (self.address, self.port)

    @property
    def name(self) -> str:
        """`ADDRESS:PORT`."""
        return host_port(self.address, self.port)


@dataclass(frozen=True, slots=True)
class ServiceEntry:
    """A kernel service with its rows."""

    service: KernelService
    destinations: Mapping[DestinationKey, Destination] = field(default_factory=dict)


Table: TypeAlias = Mapping[ServiceKey, ServiceEntry]
"""A whole IPVS table, or the part that is asked for."""
