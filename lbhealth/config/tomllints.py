"""What is well-formed and yet wrong or doubtful: the second pass over a TOML configuration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lbhealth.config.tomlfindings import Findings
from lbhealth.config.tomlservices import Placed
from lbhealth.config.tomlspans import Path
from lbhealth.model import (
    DestinationKey,
    Fallback,
    Forwarding,
    FwmarkKey,
    InetKey,
    OnDown,
    RealServer,
    ServiceKey,
    TransportProtocol,
    family_of,
    host_port,
)
from lbhealth.policy import refuses_at_zero

__all__ = ["lint"]


def lint(placed: Sequence[Placed], findings: Findings) -> None:
    """Look at all services together, then at each of them and its servers."""
    _duplicate_services(placed, findings)
    for item in (item for item in placed if item.whole):
        _service(item, findings)
        _duplicate_servers(item, findings)
        for server, path in _servers(item):
            _server(item, server, path, findings)


def _servers(item: Placed) -> Iterator[tuple[RealServer | Fallback, Path]]:
    """All servers with their paths; the fallback is one of them."""
    yield from zip(item.service.real, item.real, strict=True)
    if item.service.fallback:
        yield item.service.fallback, (*item.path, "fallback")


def _duplicate_services(placed: Sequence[Placed], findings: Findings) -> None:
    first: dict[ServiceKey, Path] = {}
    names: dict[str, Path] = {}
    for item in placed:
        key, name = item.service.key, item.service.name
        place = (*item.path, "fwmark" if isinstance(key, FwmarkKey) else "listen")
        if key in first:
            line = findings.line_of(first[key])
            findings.error("LB403", place, f"{key} is defined twice, first in line {line}")
        if name and name in names:
            line = findings.line_of(names[name])
            message = f'the name "{name}" is given twice, first in line {line}'
            findings.warning("LB424", (*item.path, "name"), message)
        first.setdefault(key, place)
        names.setdefault(name, (*item.path, "name"))


def _service(item: Placed, findings: Findings) -> None:
    service, path = item.service, item.path
    key = service.key
    udp = isinstance(key, FwmarkKey) or key.protocol is TransportProtocol.UDP
    if isinstance(key, InetKey) and key.port == 0 and service.persistence is None:
        hint = 'write persistence = { timeout = "5m" }, or a port'
        message = "a service on every port (port 0) needs persistence"
        findings.error("LB412", (*path, "listen"), message, help=hint)
    if service.one_packet and not udp:
        message = "one_packet is for UDP services only"
        findings.error("LB421", (*path, "one_packet"), message)
    if service.persistence and service.persistence.engine == "sip" and not udp:
        message = 'the persistence engine "sip" is for UDP services only'
        findings.error("LB421", (*path, "persistence", "engine"), message)
    if service.on_down is OnDown.QUIESCE and refuses_at_zero(service.scheduler, service.flags):
        _warn_zero(item, findings)


def _warn_zero(item: Placed, findings: Findings) -> None:
    scheduler = item.service.scheduler
    hint = 'write on_down = "remove"'
    if scheduler != "dh":
        hint = f'write flags = ["{scheduler}-fallback"], or on_down = "remove"'
    message = (
        f"{scheduler} refuses the clients of a server at weight 0: "
        "failed servers are removed instead of quiesced"
    )
    findings.warning("LB407", (*item.path, "scheduler"), message, help=hint)


def _duplicate_servers(item: Placed, findings: Findings) -> None:
    service = item.service
    rows: dict[DestinationKey, tuple[RealServer, Path]] = {}
    for server, path in zip(service.real, item.real, strict=True):
        row = service.destination_key(server)
        if row not in rows:
            rows[row] = (server, path)
            continue
        other, where = rows[row]
        line = findings.line_of((*where, "address"))
        if other.name == server.name:
            message = f"{server.name} is listed twice, first in line {line}"
            findings.error("LB404", (*path, "address"), message)
        else:
            message = (
                f"{server.name} and {other.name} (line {line}) are the same kernel row "
                f"{host_port(*row)}"
            )
            hint = "only masq tells servers apart by their ports"
            findings.error("LB405", (*path, "address"), message, help=hint)
    if service.fallback and service.destination_key(service.fallback) in rows:
        message = f"the fallback {service.fallback.name} is one of the real servers too"
        findings.warning("LB419", (*item.path, "fallback", "address"), message)


def _server(item: Placed, server: RealServer | Fallback, path: Path, findings: Findings) -> None:
    key = item.service.key
    place = (*path, "address")
    tunnelled = server.forwarding is Forwarding.TUNNEL
    if family_of(server.address) != key.family and not tunnelled:
        message = f"{server.name} and the service {key} mix IPv4 and IPv6: only a tunnel can"
        hint = 'write forwarding = "tunnel"'
        findings.error("LB416", place, message, help=hint)
    if isinstance(key, InetKey):
        if server.port == 0 and key.port:
            message = "port 0 only where the service is on every port"
            findings.error("LB412", place, message)
        elif key.port and server.port != key.port and server.forwarding is not Forwarding.MASQ:
            _warn_port(server, key.port, place, findings)
    if isinstance(server, RealServer):
        _real(item, server, path, findings)


def _warn_port(server: RealServer | Fallback, port: int, place: Path, findings: Findings) -> None:
    word = server.forwarding.name.lower()
    use = f"port {server.port} is used for the check only" if isinstance(server, RealServer) else ""
    message = f"{word} does not translate ports, clients reach port {port}" + (
        f": {use}" if use else f", not {server.port}"
    )
    findings.warning("LB406", place, message, help='write forwarding = "masq", or no port')


def _real(item: Placed, server: RealServer, path: Path, findings: Findings) -> None:
    if server.upper and server.lower > server.upper:
        message = f"min_connections {server.lower} is above max_connections {server.upper}"
        findings.error("LB409", (*path, "min_connections"), message)
    if server.lower and not server.upper:
        message = "min_connections has no effect without max_connections"
        findings.warning("LB310", (*path, "min_connections"), message)
    if server.tunnel and server.forwarding is not Forwarding.TUNNEL:
        message = f'tunnel settings, but the forwarding is "{server.forwarding.name.lower()}"'
        hint = 'write forwarding = "tunnel", or leave tunnel out'
        findings.error("LB417", (*path, "tunnel"), message, help=hint)
    key = item.service.key
    if isinstance(key, InetKey) and key.protocol is TransportProtocol.UDP:
        plain = next((c for c in server.checks if c.checker.kind == "tcp"), None)
        if plain is not None and len(server.checks) == 1 and plain.hybrid is None:
            # Once for the service: it is about the check, not about a server.
            message = f"the check of {key} is a TCP connect, which says nothing about its UDP port"
            hint = 'name the protocol, or write check = { type = "ping" }'
            findings.warning("LB420", (*item.path, "listen"), message, help=hint)
