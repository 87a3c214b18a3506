"""From a `[[virtual]]` table to a `VirtualService`: names become numbers, words become enums."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lbhealth.config.loading import Resolver
from lbhealth.config.schema import FallbackTable, RealTable, TunnelTable, VirtualTable
from lbhealth.config.source import nearest
from lbhealth.config.tomlchecks import CheckReader, Plan
from lbhealth.config.tomlfindings import Findings
from lbhealth.config.tomlspans import Path
from lbhealth.config.tomlvalues import (
    AddressFault,
    Endpoint,
    endpoint,
    literal_address,
    netmask,
    shown,
)
from lbhealth.config.tomlwords import salvage
from lbhealth.model import (
    Address,
    DirectorSettings,
    Fallback,
    Forwarding,
    FwmarkKey,
    InetKey,
    OnDown,
    Persistence,
    RealServer,
    ServiceKey,
    TransportProtocol,
    Tunnel,
    TunnelChecksum,
    TunnelType,
    VirtualService,
)

__all__ = ["Placed", "ServiceReader"]

_SCHEDULERS = frozenset(
    {"dh", "fo", "lblc", "lblcr", "lc", "mh", "nq", "ovf", "rr", "sed", "sh", "twos", "wlc", "wrr"}
)
_FLAGS = frozenset(
    {"flag-1", "flag-2", "flag-3", "mh-fallback", "mh-port", "sh-fallback", "sh-port"}
)
_HASH_FLAGS = {"flag-1": "fallback", "flag-2": "port"}
"""What the first flags mean to sh and mh; the kernel has one bit for both names."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A service with the paths of its table and of its servers (as many as `service.real`).

    Where it is not `whole`, faulty keys were left out of it.
    """

    service: VirtualService
    path: Path
    real: tuple[Path, ...]
    whole: bool


class ServiceReader:
    """Reads virtual services; what is wrong goes to the findings."""

    def __init__(
        self,
        findings: Findings,
        resolver: Resolver,
        checks: CheckReader,
        director: DirectorSettings,
    ) -> None:
        self._findings = findings
        self._resolver = resolver
        self._checks = checks
        self._director = director

    def read(self, raw: object, path: Path) -> Placed | None:
        """The service at `path`; None when its own keys are wrong.  Bad servers are left out."""
        table, whole = salvage(VirtualTable, raw, path, self._findings)
        given: Mapping[str, Any] = raw if isinstance(raw, dict) else {}
        key = self._key(table, path) if table and _has_key(table, given) else None
        plan = self._checks.read(given.get("check"), (*path, "check"))
        listed = given.get("real")
        items = enumerate(listed if isinstance(listed, list) else ())
        places = (((*path, "real", number), item) for number, item in items)
        read = ((self._real(item, place, table, key, plan), place) for place, item in places)
        real = [(server, place) for server, place in read if server is not None]
        if whole and not listed:
            self._findings.warning("LB422", path, "the service has no real servers")
        if table is None or key is None:
            return None
        service = VirtualService(
            key=key,
            name=table.name,
            scheduler=self._scheduler(table, path),
            flags=self._flags(table, path),
            persistence=self._persistence(table, key, path),
            one_packet=table.one_packet,
            real=tuple(server for server, _ in real),
            fallback=self._fallback(table, key, path) if table.fallback else None,
            on_down=OnDown(table.on_down),
            min_up=table.min_up,
            readd_quiescent=table.readd_quiescent,
            clean_stop=self._director.clean_stop,
        )
        return Placed(service, path, tuple(place for _, place in real), whole)

    # ----------------------------------------------------------------- the service itself

    def _key(self, table: VirtualTable, path: Path) -> ServiceKey | None:
        if table.fwmark is not None:
            if table.listen is not None:
                message = "a service has listen or fwmark, not both"
                self._findings.error("LB307", (*path, "fwmark"), message)
                return None
            family = socket.AF_INET6 if table.family == "inet6" else socket.AF_INET
            return FwmarkKey(table.fwmark, family)
        if table.listen is None:
            hint = 'write listen = "192.0.2.10:80/tcp", or fwmark = 1'
            self._findings.error("LB303", path, "the service has no listen or fwmark", help=hint)
            return None
        if table.family is not None:
            message = "family belongs to fwmark; an address says its family itself"
            self._findings.error("LB307", (*path, "family"), message)
        return self._inet_key(table.listen, (*path, "listen"))

    def _inet_key(self, listen: str, place: Path) -> InetKey | None:
        try:
            parts = endpoint(listen)
            protocol = parts.protocol or "tcp"
            if protocol not in set(TransportProtocol):
                hint = nearest(protocol, list(TransportProtocol))
                message = f"the protocol must be tcp, udp or sctp, not {shown(protocol)}"
                raise AddressFault(message, hint, parts.protocol_at, len(protocol))
            if not parts.port:
                raise AddressFault("listen has no port", 'such as "192.0.2.10:80"')
        except AddressFault as error:
            self._complain(error, place)
            return None
        port = self._port(parts.port, protocol, place, parts.port_at)
        address = self._listen_address(parts.host, place)
        if port is None or address is None:
            return None
        return InetKey(TransportProtocol(protocol), address, port)

    def _listen_address(self, host: str, place: Path) -> Address | None:
        """An address as it is, a name in IPv4 and, where it has none, in IPv6."""
        if literal := literal_address(host):
            return literal
        try:
            return self._resolver.address(host, socket.AF_INET)
        except (OSError, ValueError):
            return self._address(host, socket.AF_INET6, place)

    def _scheduler(self, table: VirtualTable, path: Path) -> str:
        if table.scheduler not in _SCHEDULERS:
            known = ", ".join(sorted(_SCHEDULERS))
            hint = nearest(table.scheduler, _SCHEDULERS)
            self._findings.error(
                "LB104",
                (*path, "scheduler"),
                f"unknown scheduler {shown(table.scheduler)}",
                help=f"{hint}  (known: {known})" if hint else f"known: {known}",
            )
        return table.scheduler

    def _flags(self, table: VirtualTable, path: Path) -> tuple[str, ...]:
        """Flags under the names that ipvsadm prints for this scheduler, sorted."""
        flags = set()
        for number, flag in enumerate(table.flags):
            place = (*path, "flags", number)
            owner = flag.partition("-")[0]
            if flag not in _FLAGS:
                hint = nearest(flag, _FLAGS) or f"known: {', '.join(sorted(_FLAGS))}"
                self._findings.error("LB408", place, f"unknown flag {shown(flag)}", help=hint)
            elif owner in ("sh", "mh") and owner != table.scheduler:
                message = f"{flag} belongs to the scheduler {owner}, not {table.scheduler}"
                self._findings.error("LB408", place, message)
            if table.scheduler in ("sh", "mh") and flag in _HASH_FLAGS:
                flag = f"{table.scheduler}-{_HASH_FLAGS[flag]}"
            flags.add(flag)
        return tuple(sorted(flags))

    def _persistence(self, table: VirtualTable, key: ServiceKey, path: Path) -> Persistence | None:
        given = table.persistence
        if given is None:
            return None
        mask = None
        if given.netmask is not None:
            try:
                mask = netmask(given.netmask, key.family)
            except AddressFault as error:
                place = (*path, "persistence", "netmask")
                self._findings.error("LB411", place, f"netmask {error.message}", help=error.help)
        return self._checks.share(Persistence(int(given.timeout), mask, given.engine))

    def _fallback(self, table: VirtualTable, key: ServiceKey, path: Path) -> Fallback | None:
        given: FallbackTable | None = table.fallback
        assert given is not None
        place = (*path, "fallback", "address")
        forwarding = Forwarding[(given.forwarding or table.forwarding).upper()]
        parts = self._server_parts(given.address, place)
        found = self._server_address(parts, key, place) if parts else None
        return Fallback(address=found[0], port=found[1], forwarding=forwarding) if found else None

    # ----------------------------------------------------------------- servers

    def _real(
        self,
        raw: object,
        path: Path,
        virtual: VirtualTable | None,
        key: ServiceKey | None,
        plan: Plan | None,
    ) -> RealServer | None:
        """One server; structural errors are found even where the service itself is wrong."""
        table, whole = salvage(RealTable, raw, path, self._findings)
        if isinstance(raw, dict) and raw.get("check") is not None:
            plan = self._checks.read(raw["check"], (*path, "check"))
        if table is None:
            return None
        parts = self._server_parts(table.address, (*path, "address"))
        if parts is None or virtual is None or key is None:
            return None
        found = self._server_address(parts, key, (*path, "address"))
        if found is None or not whole:
            return None
        plan = plan or Plan(())  # a faulty check is no reason to look no further
        word = table.forwarding or virtual.forwarding
        address, port = found
        to = port or (key.port if isinstance(key, InetKey) else 0)
        return RealServer(
            address=address,
            port=port,
            forwarding=Forwarding[word.upper()],
            weight=table.weight,
            upper=table.max_connections,
            lower=table.min_connections,
            tunnel=self._tunnel(table.tunnel, (*path, "tunnel")),
            checks=self._checks.aim(plan, address, to, (*path, "address"), key),
            assumed=plan.assumed,
        )

    def _tunnel(self, given: TunnelTable | None, path: Path) -> Tunnel | None:
        if given is None:
            return None
        if given.type == "gue" and given.port is None:
            self._findings.error("LB303", path, 'the key "port" is missing: GUE needs a port')
        if given.type != "gue" and given.port is not None:
            message = f"only GUE has a port, not {given.type}"
            self._findings.error("LB417", (*path, "port"), message)
        if given.type == "ipip" and given.checksum != "none":
            message = "only GUE and GRE have a checksum, not ipip"
            self._findings.error("LB417", (*path, "checksum"), message)
        checksum = TunnelChecksum[given.checksum.upper()]
        return self._checks.share(Tunnel(TunnelType[given.type.upper()], given.port or 0, checksum))

    def _server_parts(self, text: str, place: Path) -> Endpoint | None:
        try:
            parts = endpoint(text)
            if parts.protocol:
                message = "a protocol stands in listen, not with a server"
                raise AddressFault(message, "", parts.protocol_at - 1, len(parts.protocol) + 1)
        except AddressFault as error:
            self._complain(error, place)
            return None
        return parts

    def _server_address(
        self, parts: Endpoint, key: ServiceKey, place: Path
    ) -> tuple[Address, int] | None:
        """Address and port of a server; without a port that of the service."""
        inet = key if isinstance(key, InetKey) else None
        port: int | None = inet.port if inet else 0
        if parts.port:
            protocol = str(inet.protocol) if inet else None
            port = self._port(parts.port, protocol, place, parts.port_at)
        address = self._address(parts.host, key.family, place)
        return None if port is None or address is None else (address, port)

    # ----------------------------------------------------------------- names to numbers

    def _address(self, host: str, family: socket.AddressFamily, place: Path) -> Address | None:
        address = literal_address(host)
        if address is None:
            try:
                address = self._resolver.address(host, family)
            except (OSError, ValueError) as error:
                version = "IPv6" if family == socket.AF_INET6 else "IPv4"
                reason = getattr(error, "strerror", None) or "not a valid name"
                message = f"{shown(host)} has no {version} address: {reason}"
                self._findings.error("LB401", place, message)
                return None
        return self._checks.share(address)

    def _port(self, text: str, protocol: str | None, place: Path, at: int) -> int | None:
        if text.isascii() and text.isdigit():
            if len(text) < 6 and int(text) <= 65535:
                return int(text)
            message = f"the port must be 0 to 65535, not {shown(text)}"
            self._findings.error("LB402", place, message, part=(at, len(text)))
            return None
        try:
            return self._resolver.port(text, protocol)
        except (OSError, ValueError):
            of = f" of {protocol}" if protocol else ""
            message = f"unknown service name {shown(text)}{of}"
            self._findings.error(
                "LB402", place, message, help="write the port as a number", part=(at, len(text))
            )
            return None

    def _complain(self, error: AddressFault, place: Path) -> None:
        part = (error.start, error.length) if error.length else None
        self._findings.error("LB415", place, error.message, help=error.help, part=part)


def _has_key(table: VirtualTable, given: Mapping[str, object]) -> bool:
    """False where a faulty listen or fwmark was left out, which is reported already."""
    faulty = ("listen" in given or "fwmark" in given) and not (table.listen or table.fwmark)
    return not faulty
