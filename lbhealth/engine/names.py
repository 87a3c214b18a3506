"""How operators name servers: `ADDRESS:PORT`, or `SERVICE/ADDRESS:PORT`; IPv6 in brackets."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from lbhealth.engine.services import ServerRuntime, ServiceRuntime
from lbhealth.errors import UnknownServer
from lbhealth.model import ServiceKey, canonical_address, host_port

__all__ = ["find_servers"]


def find_servers(services: Mapping[ServiceKey, ServiceRuntime], name: str) -> list[ServerRuntime]:
    """Return every server of that name, one for each service that has it.

    SERVICE is the service as `status` shows it (`tcp:192.0.2.10:80`, `fwm:5`) or its
    configured name.  Raises UnknownServer with the nearest names.
    """
    service_name, slash, server_name = name.rpartition("/")
    wanted = _canonical(server_name)
    found = [
        server
        for service in services.values()
        if not slash or _canonical(service_name) in (str(service.config.key), service.config.name)
        for server in service.servers.values()
        if server.server.name == wanted
    ]
    if not found:
        known = {s.server.name for service in services.values() for s in service.servers.values()}
        raise UnknownServer(name, difflib.get_close_matches(wanted, sorted(known), n=3))
    return found


def _canonical(name: str) -> str:
    """Spell the address in a name as lbhealth spells it; other text stays as it is."""
    protocol, colon, rest = name.partition(":")
    if protocol in ("tcp", "udp", "sctp"):
        return protocol + colon + _canonical(rest)
    host, colon, port = name.rpartition(":")
    try:
        return host_port(canonical_address(host.strip("[]")), int(port))
    except ValueError:
        return name
