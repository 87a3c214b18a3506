"""How operators name servers: `ADDRESS:PORT`, or `SERVICE/ADDRESS:PORT`; IPv6 in brackets."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from lbhealth.engine.services import ServerRuntime, ServiceRuntime
from lbhealth.errors import UnknownServer
from lbhealth.model import ServiceKey, canonical_address, host_port

__all__ = ["find_servers"]

_COMPARED = 500
"""Names that are compared for a hint: a few milliseconds."""


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
        raise UnknownServer(name, _nearest(services, wanted))
    return found


def _nearest(services: Mapping[ServiceKey, ServiceRuntime], wanted: str) -> list[str]:
    """Names like the wanted one: of the same host or port, since comparing all takes long."""
    known = {
        server.server.name
        for service in services.values()
        for server in service.servers.values()
        if server.server.address in wanted or wanted.endswith(f":{server.server.port}")
    }
    return difflib.get_close_matches(wanted, sorted(known)[:_COMPARED], n=3)


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
